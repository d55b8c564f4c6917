// The functions for Python, compiled once per target, with TARGET as the suffix of all names.
// Each function returns 0, or 1 if there wasn't enough memory.

#include "kmeans.hpp"
#include "mixture.hpp"
#include "sampling.hpp"
#include "seeding.hpp"

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define EXPORT(name) extern "C" __attribute__((visibility("default"))) int JOIN(name, TARGET)

EXPORT(assign)
(int single, const void* x, int64_t N, const double* C, int64_t K, int64_t D, int64_t* labels,
 double* sqdist) {
    if (N <= FEW) {
        if (single) scan_all((const float*)x, N, C, K, D, labels, sqdist);
        else scan_all((const double*)x, N, C, K, D, labels, sqdist);
        return 0;
    }
    Search search(C, K, D, single);
    if (!search.ok()) return 1;
    if (single) kmeans_assign((const float*)x, N, search, labels, sqdist);
    else kmeans_assign((const double*)x, N, search, labels, sqdist);
    return 0;
}

EXPORT(squared_distances)
(int single, const void* x, int64_t N, const double* C, int64_t K, int64_t D, double* out) {
    Codebook book(C, K, D);
    if (!book.ok()) return 1;
    if (single) all_distances((const float*)x, N, book, out);
    else all_distances((const double*)x, N, book, out);
    return 0;
}

EXPORT(accumulate)
(int single, const void* x, const double* w, const int64_t* labels, int64_t N,
 const double* reference, int64_t D, int64_t low, int64_t high, double* weight, double* first) {
    if (single)
        accumulate((const float*)x, w, labels, N, D, reference, low, high, weight, first);
    else
        accumulate((const double*)x, w, labels, N, D, reference, low, high, weight, first);
    return 0;
}

EXPORT(kmeans_step)(const KmeansStep* step) {
    Search search(step->C, step->K, step->D, step->single);
    if (!search.ok()) return 1;
    if (step->single) kmeans_step((const float*)step->x, *step, search);
    else kmeans_step((const double*)step->x, *step, search);
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
(int single, const void* x, const double* w, int64_t N, int64_t K, int64_t D, int matrix,
 int shared, const double* log_weights, const double* means, const double* root, double* weight,
 double* first, double* second, double* log_likelihood) {
    const Gaussians g(K, D, matrix, shared, log_weights, means, root);
    if (!g.ok()) return 1;
    return !(single ? mixture_step((const float*)x, w, N, g, weight, first, second, log_likelihood)
                    : mixture_step((const double*)x, w, N, g, weight, first, second, log_likelihood));
}

EXPORT(log_gaussians)
(int single, const void* x, int64_t N, int64_t K, int64_t D, int matrix, int shared,
 const double* log_weights, const double* means, const double* root, double* out) {
    const Gaussians g(K, D, matrix, shared, log_weights, means, root);
    if (!g.ok()) return 1;
    return !(single ? log_gaussians((const float*)x, N, g, out)
                    : log_gaussians((const double*)x, N, g, out));
}

EXPORT(plusplus)
(const double* X, const double* w, int64_t N, int64_t D, int64_t K, int64_t trials,
 const double* uniform, int64_t* chosen, int64_t* found) {
    return !plusplus(X, w, N, D, K, trials, uniform, chosen, found);
}

EXPORT(swaps)
(const double* X, const double* w, int64_t N, int64_t D, double* C, int64_t K,
 const double* uniform, int64_t trials) {
    return !swaps(X, w, N, D, C, K, uniform, trials);
}

EXPORT(moves)
(const double* X, const double* w, const int64_t* labels, int64_t N, const double* C, int64_t K,
 int64_t D, const double* weight, double* gain, int64_t* target) {
    return !moves(X, w, labels, N, C, K, D, weight, gain, target);
}
