// Runs the kernels on cases from a file, for processors that Python isn't run on here.
//
// A case is N, K, D and what to do (see the test), X, w, and centroids, and for a mixture log-weights
// and factors; or for the searches random numbers, labels and weights. All are 64 bits wide; the
// results follow each other in the order of the arguments.
#include <stdint.h>
#include <stdio.h>
#include <vector>

#include "kmeans.hpp"

typedef std::vector<double> Array;

extern "C" {
int kmeans_step_baseline(const KmeansStep*);
int mixture_step_baseline(int, const void*, const double*, int64_t, int64_t, int64_t, int, int,
                          const double*, const double*, const double*, double*, double*, double*,
                          double*);
int plusplus_baseline(const double*, const double*, int64_t, int64_t, int64_t, int64_t,
                      const double*, int64_t*, int64_t*);
int swaps_baseline(const double*, const double*, int64_t, int64_t, double*, int64_t, const double*,
                   int64_t);
int moves_baseline(const double*, const double*, const int64_t*, int64_t, const double*, int64_t,
                   int64_t, const double*, double*, int64_t*);
}

typedef std::vector<int64_t> Labels;

static const int64_t TRIALS = 3, DRAWS = 20;

static FILE *from, *to;

template <typename Values = Array>
static Values read(int64_t n) {
    Values values(n);
    if (fread(values.data(), 8, n, from) != (size_t)n) values.clear();
    return values;
}

template <typename Values>
static void write(const Values& values) { fwrite(values.data(), 8, values.size(), to); }

static void kmeans(int64_t N, int64_t K, int64_t D, bool single) {
    const Array X = read(N * D), w = read(N), C = read(K * D);
    const std::vector<float> narrow(X.begin(), X.end());
    const void* x = single ? (const void*)narrow.data() : (const void*)X.data();
    Labels labels(N);
    Array sqdist(N), weight(K), first(K * D), inertia(1);
    const KmeansStep step = {single, N, K, D, x, w.data(), C.data(), weight.data(), first.data(),
                             labels.data(), sqdist.data(), inertia.data()};
    kmeans_step_baseline(&step);
    write(labels), write(sqdist), write(weight), write(first), write(inertia);
}

static void mixture(int64_t N, int64_t K, int64_t D, bool matrix, bool shared) {
    const int64_t cells = (shared ? 1 : K) * D * (matrix ? D : 1);
    const Array X = read(N * D), w = read(N), means = read(K * D), log_weights = read(K),
                root = read(cells);
    Array weight(K), first(K * D), second(cells), log_likelihood(1);
    mixture_step_baseline(0, X.data(), w.data(), N, K, D, matrix, shared, log_weights.data(),
                          means.data(), root.data(), weight.data(), first.data(), second.data(),
                          log_likelihood.data());
    write(weight), write(first), write(second), write(log_likelihood);
}

// From one search to the next: points are chosen, swapped for others, then moved one by one.
static void searches(int64_t N, int64_t K, int64_t D) {
    const Array X = read(N * D), w = read(N), uniform = read(1 + TRIALS * (K - 1)), draws = read(DRAWS);
    const Labels labels = read<Labels>(N);
    const Array cluster_weight = read(K);
    Labels chosen(K), target(N);
    int64_t found = 0;
    plusplus_baseline(X.data(), w.data(), N, D, K, TRIALS, uniform.data(), chosen.data(), &found);
    Array C, gain(N);
    for (int64_t k = 0; k < found; ++k)
        C.insert(C.end(), X.begin() + chosen[k] * D, X.begin() + (chosen[k] + 1) * D);
    swaps_baseline(X.data(), w.data(), N, D, C.data(), found, draws.data(), DRAWS);
    moves_baseline(X.data(), w.data(), labels.data(), N, C.data(), found, D, cluster_weight.data(),
                   gain.data(), target.data());
    write(chosen), write(C), write(gain), write(target);
}

int main(int, char** names) {
    from = fopen(names[1], "rb"), to = fopen(names[2], "wb");
    int64_t head[4];
    while (fread(head, 8, 4, from) == 4) {
        const int64_t N = head[0], K = head[1], D = head[2], what = head[3];
        if (what < 2) kmeans(N, K, D, what);
        else if (what < 5) mixture(N, K, D, what < 4, what == 3);
        else searches(N, K, D);
    }
    return fclose(to);
}
