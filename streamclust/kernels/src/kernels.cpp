// The functions for Python, compiled once per target, with TARGET as the suffix of all names.
// Each function returns 0, or 1 if there wasn't enough memory.

#include "gaps.hpp"
#include "interleave.hpp"
#include "kmeans_step.hpp"
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
 double background, double* weight, double* first, double* second, double* log_likelihood) {
    const Caller caller;
    Gaussians g(K, D, matrix, shared, log_weights, means, root);
    g.background = background;
    const MixtureSums total = {weight, first, second, log_likelihood};
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

EXPORT(expected_step)
(int single, const void* x, const double* w, int64_t P, const int64_t* order, const int64_t* starts,
 const uint8_t* absent, int64_t K, int64_t D, int matrix, int shared, const double* log_weights,
 const double* means, const double* covariances, const double* floor, double* weight, double* first,
 double* second, double* log_likelihood) {
    const Caller caller;
    const Groups groups = {P, order, starts, absent};
    const Components all = {K, D, (bool)matrix, (bool)shared, log_weights, means, covariances};
    Expected expected(all, floor, weight, first, second);
    return !(single ? expected_step((const float*)x, w, groups, all, expected, log_likelihood)
                    : expected_step((const double*)x, w, groups, all, expected, log_likelihood));
}

EXPORT(marginal_log_gaussians)
(int single, const void* x, int64_t P, const int64_t* order, const int64_t* starts,
 const uint8_t* absent, int64_t K, int64_t D, int matrix, int shared, const double* log_weights,
 const double* means, const double* covariances, double* out) {
    const Caller caller;
    const Groups groups = {P, order, starts, absent};
    const Components all = {K, D, (bool)matrix, (bool)shared, log_weights, means, covariances};
    return !(single ? marginal_log_gaussians((const float*)x, groups, all, out)
                    : marginal_log_gaussians((const double*)x, groups, all, out));
}

EXPORT(marginal_log_dets)
(int64_t P, const uint8_t* absent, int64_t K, int64_t D, int matrix, int shared,
 const double* log_weights, const double* means, const double* covariances, double* out) {
    const Caller caller;
    const Groups groups = {P, nullptr, nullptr, absent};
    const Components all = {K, D, (bool)matrix, (bool)shared, log_weights, means, covariances};
    return !marginal_log_dets(groups, all, out);
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
