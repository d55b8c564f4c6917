// Runs the kernels on cases from a file, for processors that Python isn't run on here.
//
// A case is N, K, D and what to do (see the test), X, w, and centroids, and for a mixture log-weights
// and factors; or for the searches random numbers, labels and weights. All are 64 bits wide; the
// results follow each other in the order of the arguments.
//
// driver CASES RESULTS [THREADS [CALLERS]]: each call uses so many threads, and as many callers compute
// each case at the same time. It fails if they don't agree.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

#include "kmeans.hpp"

typedef std::vector<double> Array;

extern "C" {
int kmeans_step_baseline(const KmeansStep*);
int mixture_step_baseline(int, int64_t, const void*, const double*, int64_t, int64_t, int64_t, int, int,
                          const double*, const double*, const double*, double, double*, double*, double*,
                          double*, double*);
int plusplus_baseline(int64_t, const double*, const double*, int64_t, int64_t, int64_t, int64_t,
                      const double*, int64_t*, int64_t*);
int swaps_baseline(int64_t, const double*, const double*, int64_t, int64_t, double*, int64_t, const double*,
                   int64_t);
int moves_baseline(int64_t, const double*, const double*, const int64_t*, int64_t, const double*, int64_t,
                   int64_t, const double*, double*, int64_t*);
}

typedef std::vector<int64_t> Labels;

static const int64_t TRIALS = 3, DRAWS = 20;

static Labels cases;
static int64_t threads = 1;

struct Driver {
    const int64_t* from;
    Labels results = {};

    template <typename Values = Array>
    Values read(int64_t n) {
        Values values(n);
        memcpy(values.data(), from, 8 * n);
        from += n;
        return values;
    }

    template <typename Values>
    void write(const Values& values) {
        const int64_t* words = (const int64_t*)values.data();
        results.insert(results.end(), words, words + values.size());
    }

    void kmeans(int64_t N, int64_t K, int64_t D, bool single) {
        const Array X = read(N * D), w = read(N), C = read(K * D);
        const std::vector<float> narrow(X.begin(), X.end());
        const void* x = single ? (const void*)narrow.data() : (const void*)X.data();
        Labels labels(N);
        Array sqdist(N), weight(K), first(K * D), inertia(1);
        const KmeansStep step = {single, threads, N, K, D, x, w.data(), C.data(), weight.data(), first.data(),
                                 labels.data(), sqdist.data(), inertia.data()};
        kmeans_step_baseline(&step);
        write(labels), write(sqdist), write(weight), write(first), write(inertia);
    }

    void mixture(int64_t N, int64_t K, int64_t D, bool matrix, bool shared) {
        const int64_t cells = (shared ? 1 : K) * D * (matrix ? D : 1);
        const Array X = read(N * D), w = read(N), means = read(K * D), log_weights = read(K),
                    root = read(cells), background = read(1);
        Array weight(K), first(K * D), second(cells), log_likelihood(1), density(N);
        mixture_step_baseline(0, threads, X.data(), w.data(), N, K, D, matrix, shared, log_weights.data(),
                              means.data(), root.data(), background[0], weight.data(), first.data(), second.data(),
                              log_likelihood.data(), density.data());
        write(weight), write(first), write(second), write(log_likelihood), write(density);
    }

    // From one search to the next: points are chosen, swapped for others, then moved one by one.
    void searches(int64_t N, int64_t K, int64_t D) {
        const Array X = read(N * D), w = read(N), uniform = read(1 + TRIALS * (K - 1)), draws = read(DRAWS);
        const Labels labels = read<Labels>(N);
        const Array cluster_weight = read(K);
        Labels chosen(K), target(N);
        int64_t found = 0;
        plusplus_baseline(threads, X.data(), w.data(), N, D, K, TRIALS, uniform.data(), chosen.data(), &found);
        Array C, gain(N);
        for (int64_t k = 0; k < found; ++k)
            C.insert(C.end(), X.begin() + chosen[k] * D, X.begin() + (chosen[k] + 1) * D);
        swaps_baseline(threads, X.data(), w.data(), N, D, C.data(), found, draws.data(), DRAWS);
        moves_baseline(threads, X.data(), w.data(), labels.data(), N, C.data(), found, D, cluster_weight.data(),
                       gain.data(), target.data());
        write(chosen), write(C), write(gain), write(target);
    }

    void next_case() {
        const Labels head = read<Labels>(4);
        const int64_t N = head[0], K = head[1], D = head[2], what = head[3];
        if (what < 2) kmeans(N, K, D, what);
        else if (what < 5) mixture(N, K, D, what < 4, what == 3);
        else searches(N, K, D);
    }
};

static void* next_case(void* driver) {
    ((Driver*)driver)->next_case();
    return nullptr;
}

int main(int count, char** arguments) {
    FILE* file = fopen(arguments[1], "rb");
    fseek(file, 0, SEEK_END);
    cases.resize(ftell(file) / 8);
    rewind(file);
    if (fread(cases.data(), 8, cases.size(), file) != cases.size()) return 1;
    threads = count > 3 ? atol(arguments[3]) : 1;
    std::vector<Driver> callers(count > 4 ? atol(arguments[4]) : 1, Driver{cases.data()});
    while (callers[0].from < cases.data() + cases.size()) {
        std::vector<pthread_t> started(callers.size());
        for (size_t i = 0; i < callers.size(); ++i)
            pthread_create(&started[i], nullptr, next_case, &callers[i]);
        for (pthread_t thread : started) pthread_join(thread, nullptr);
    }
    for (const Driver& other : callers)
        if (other.results != callers[0].results) return 1;
    file = fopen(arguments[2], "wb");
    fwrite(callers[0].results.data(), 8, callers[0].results.size(), file);
    return fclose(file);
}
