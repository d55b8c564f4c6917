// The functions for Python, compiled once per target, with TARGET as the suffix of all names.
// Each function returns 0, or 1 if there wasn't enough memory; one returns 2 if a file was cut off.

#include "gaps.hpp"
#include "interleave.hpp"
#include "kmeans_step.hpp"
#include "partial.hpp"
#include "sampling.hpp"
#include "seeding.hpp"

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define EXPORT(name) extern "C" __attribute__((visibility("default"))) int JOIN(name, TARGET)

EXPORT(assign)(const KmeansStep* step) {
    const Caller caller;
    return !(step->single ? assign<float>(*step) : assign<double>(*step));
}

EXPORT(squared_distances)(const KmeansStep* step) {
    const Caller caller;
    return !(step->single ? squared_distances<float>(*step) : squared_distances<double>(*step));
}

EXPORT(cluster_sums)(const KmeansStep* step) {
    const Caller caller;
    return !(step->single ? cluster_sums<float>(*step) : cluster_sums<double>(*step));
}

EXPORT(kmeans_step)(const KmeansStep* step) {
    const Caller caller;
    return !(step->single ? kmeans_step<float>(*step) : kmeans_step<double>(*step));
}

EXPORT(kmeans_step_of_file)(const KmeansStep* step) {
    const Caller caller;
    return step->single ? kmeans_step_of_file<float>(*step) : kmeans_step_of_file<double>(*step);
}

EXPORT(interleave)(int single, const void* const* columns, int64_t N, int64_t F, void* rows) {
    if (single) interleave((const float* const*)columns, N, F, (float*)rows);
    else interleave((const double* const*)columns, N, F, (double*)rows);
    return 0;
}

EXPORT(sample)
(const double* w, const int64_t* labels, const double* sqdist, int64_t N, int64_t K, double size,
 double start, int64_t* picked, double* probability, int64_t* count) {
    Buffer<double> share(K);
    if (!share.ok()) return 1;
    *count = sample(w, labels, sqdist, N, K, size, start, share.data, picked, probability);
    return 0;
}

EXPORT(mixture_step)
(int single, int64_t threads, const void* x, const double* w, int64_t N, int64_t K, int64_t D,
 int matrix, int shared, const double* log_weights, const double* means, const double* root,
 double background, double* weight, double* first, double* second, double* log_likelihood,
 double* density) {
    const Caller caller;
    Gaussians g(K, D, matrix, shared, log_weights, means, root);
    g.background = background;
    const MixtureSums total = {weight, first, second, log_likelihood, density};
    if (!g.ok()) return 1;
    return !(single ? mixture_step((const float*)x, w, N, g, threads, total)
                    : mixture_step((const double*)x, w, N, g, threads, total));
}

EXPORT(log_gaussians)
(int single, int64_t threads, const void* x, int64_t N, int64_t K, int64_t D, int matrix, int shared,
 const double* log_weights, const double* means, const double* root, double* out) {
    const Caller caller;
    const Gaussians g(K, D, matrix, shared, log_weights, means, root);
    if (!g.ok()) return 1;
    return !(single ? log_gaussians((const float*)x, N, g, threads, out)
                    : log_gaussians((const double*)x, N, g, threads, out));
}

// The functions for points with gaps return 2 if the precisions have too few digits.

EXPORT(expected_step)
(int single, int64_t threads, const void* x, const double* w, int64_t P, const int64_t* order,
 const int64_t* starts, const uint8_t* absent, int64_t K, int64_t D, int matrix, int shared,
 const double* log_weights, const double* means, const double* root, const double* covariances,
 const double* floor, const double* background, double* weight, double* first, double* second,
 double* totals, double* log_density, double* entropy) {
    const Caller caller;
    const Gaussians g(K, D, matrix, shared, log_weights, means, root);
    const Parameters parameters = {log_weights, means, covariances, root};
    const ExpectedStep step = {w, {P, order, starts, absent}, floor, background, threads, log_density, entropy};
    const MixtureSums total = {weight, first, second, totals, nullptr};
    if (!g.ok()) return 1;
    return single ? expected_step((const float*)x, g, parameters, step, total)
                  : expected_step((const double*)x, g, parameters, step, total);
}

EXPORT(marginal_log_gaussians)
(int single, const void* x, int64_t P, const int64_t* order, const int64_t* starts,
 const uint8_t* absent, int64_t K, int64_t D, int matrix, int shared, const double* log_weights,
 const double* means, const double* root, double* out) {
    const Caller caller;
    const Groups groups = {P, order, starts, absent};
    const Gaussians g(K, D, matrix, shared, log_weights, means, root);
    if (!g.ok()) return 1;
    const Precisions all(g, root);
    if (!all.ready) return 1;
    if (!all.good()) return 2;
    return !(single ? marginal_log_gaussians((const float*)x, groups, all, out)
                    : marginal_log_gaussians((const double*)x, groups, all, out));
}

EXPORT(marginal_log_dets)
(int64_t P, const uint8_t* absent, int64_t K, int64_t D, int matrix, int shared,
 const double* log_weights, const double* means, const double* root, double* out) {
    const Caller caller;
    const Groups groups = {P, nullptr, nullptr, absent};
    const Gaussians g(K, D, matrix, shared, log_weights, means, root);
    if (!g.ok()) return 1;
    const Precisions all(g, root);
    if (!all.ready) return 1;
    return all.good() ? !marginal_log_dets(groups, all, root, out) : 2;
}

// `count` gets the number of complete points and that of patterns.
EXPORT(find_patterns)
(int single, const void* x, int64_t N, int64_t D, int64_t* complete, int64_t* order, int64_t* starts,
 int64_t* count) {
    const Caller caller;
    count[0] = single ? split_rows((const float*)x, N, D, complete, order)
                      : split_rows((const double*)x, N, D, complete, order);
    const int64_t n = N - count[0];
    count[1] = single ? sort_by_pattern((const float*)x, D, order, n, starts)
                      : sort_by_pattern((const double*)x, D, order, n, starts);
    return count[1] < 0;
}

EXPORT(split_rows)
(int single, const void* x, int64_t N, int64_t D, int64_t* complete, int64_t* gappy, int64_t* count) {
    const Caller caller;
    *count = single ? split_rows((const float*)x, N, D, complete, gappy)
                    : split_rows((const double*)x, N, D, complete, gappy);
    return 0;
}

EXPORT(partial_step)
(int single, int64_t threads, const void* x, const double* w, const int64_t* rows, int64_t n, int64_t K,
 int64_t D, const double* C, double* weight, double* first, int64_t* labels, double* sqdist, double* inertia) {
    const Caller caller;
    const PartialStep step = {w, rows, n, K, D, C, threads, weight, first, labels, sqdist, inertia};
    return !(single ? partial_step((const float*)x, step) : partial_step((const double*)x, step));
}

EXPORT(plusplus)
(int64_t threads, const double* X, const double* w, int64_t N, int64_t D, int64_t K, int64_t trials,
 const double* uniform, int64_t* chosen, int64_t* found) {
    const Caller caller;
    return !plusplus(X, w, N, D, K, trials, uniform, threads, chosen, found);
}

EXPORT(swaps)
(int64_t threads, const double* X, const double* w, int64_t N, int64_t D, double* C, int64_t K,
 const double* uniform, int64_t trials) {
    const Caller caller;
    return !swaps(X, w, N, D, C, K, uniform, trials, threads);
}

EXPORT(moves)
(int64_t threads, const double* X, const double* w, const int64_t* labels, int64_t N, const double* C,
 int64_t K, int64_t D, const double* weight, double* gain, int64_t* target) {
    const Caller caller;
    const Moves task = {w, labels, C, K, D, weight, gain, target};
    return !find_moves(task, X, N, threads);
}
