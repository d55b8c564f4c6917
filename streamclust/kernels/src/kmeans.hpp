// The K-means step: nearest centroids, and sums of the points about their centroids.
#pragma once

#include <unistd.h>

#include "int8_nearest.hpp"
#include "share.hpp"

// A step's arguments, all 64 bits wide. Without `x`, points are read from a place in a file.
struct KmeansStep {
    int64_t single, threads, N, K, D;
    const void* x;
    const double *w, *C;
    double *weight, *first;
    int64_t* labels;
    double *sqdist, *inertia;
    int64_t file, offset;
};

namespace {

constexpr int64_t FEW = 8;       // up to this number of points, a codebook isn't worth its cost
constexpr int64_t CACHED = 64;   // points that are added while they are in cache
constexpr int64_t MANY = 64;     // centroids whose comparison takes far longer than to add the points

// Read points from a file; false if the file ends before.
template <typename X>
bool read_points(const KmeansStep& step, int64_t start, int64_t n, X* to) {
    char* at = (char*)to;
    const int64_t row = step.D * (int64_t)sizeof(X);
    int64_t offset = step.offset + start * row;
    for (int64_t left = n * row; left > 0;) {
        const int64_t count = pread((int)step.file, at, left, offset);
        if (count <= 0) return false;
        at += count, offset += count, left -= count;
    }
    return true;
}

// Nearest centroids of one tile after the other, by the fastest method for these points.
struct Search {
    Codebook book;
    Buffer<float> tile;
#if defined(__AVX512VNNI__)
    Codes codes;
    CodedTile coded;
    int64_t pause, next_pause;  // tiles that use float32; more after each failure of int8
#endif

    Search(const double* C, int64_t K, int64_t D, bool single)
        : book(C, K, D), tile(D * TILE)
#if defined(__AVX512VNNI__)
          , codes(C, K, D, single), coded(codes), pause(codes.usable ? 0 : INT64_MAX), next_pause(2)
#endif
    {}

#if defined(__AVX512VNNI__)
    bool ok() const { return book.ok() && tile.ok() && codes.ok() && coded.ok(); }

    template <typename X>
    void nearest(const X* x, int64_t n, Nearest* out) {
        if (pause == 0 && assign_by_codes(x, n, coded, out)) {
            next_pause = 2;
            return;
        }
        if (pause > 0) --pause;
        else pause = next_pause, next_pause *= 3;
        assign_tile(x, n, book, tile.data, out);
    }
#else
    bool ok() const { return book.ok() && tile.ok(); }

    template <typename X>
    void nearest(const X* x, int64_t n, Nearest* out) { assign_tile(x, n, book, tile.data, out); }
#endif
};

// Add points to the sums of their clusters, in the order of the points.
template <typename X>
void accumulate(const X* x, const double* w, const int64_t* labels, int64_t n, int64_t D,
                const double* reference, double* weight, double* first) {
    for (int64_t i = 0; i < n; ++i, x += D) {
        const int64_t k = labels[i];
        const double share = w[i];
        const double* r = reference + k * D;
        double* sum = first + k * D;
        weight[k] += share;
        int64_t d = 0;
        for (; d + DOUBLES <= D; d += DOUBLES)
            store(sum + d, load(sum + d) + share * (load(x + d) - load(r + d)));
        for (; d < D; ++d) sum[d] += share * ((double)x[d] - r[d]);
    }
}

// Nearest centroids without a codebook: centroids (K, D), eight at a time.
template <typename X>
Nearest scan(const X* x, const double* C, int64_t K, int64_t D) {
    constexpr int AT_ONCE = 8;
    Nearest nearest = {0, INFINITY};
    for (int64_t k = 0; k < K; k += AT_ONCE) {
        const double* c[AT_ONCE];
        double sum[AT_ONCE] = {};
        for (int j = 0; j < AT_ONCE; ++j) c[j] = C + (k + j < K ? k + j : K - 1) * D;
        for (int64_t d = 0; d < D; ++d)
            for (int j = 0; j < AT_ONCE; ++j) {
                const double difference = (double)x[d] - c[j][d];
                sum[j] += difference * difference;
            }
        for (int j = 0; j < AT_ONCE && k + j < K; ++j)
            if (sum[j] < nearest.sqdist) nearest = {k + j, sum[j]};
    }
    return nearest;
}

template <typename X>
void scan_all(const X* x, int64_t N, const double* C, int64_t K, int64_t D, int64_t* labels,
              double* sqdist) {
    for (int64_t n = 0; n < N; ++n) {
        const Nearest nearest = scan(x + n * D, C, K, D);
        labels[n] = nearest.label;
        sqdist[n] = nearest.sqdist;
    }
}

template <typename X>
void kmeans_assign(const X* x, int64_t N, Search& search, int64_t* labels, double* sqdist) {
    Nearest nearest[TILE];
    for (int64_t start = 0; start < N; start += TILE) {
        const int64_t n = N - start < TILE ? N - start : TILE;
        search.nearest(x + start * search.book.D, n, nearest);
        for (int64_t p = 0; p < n; ++p) {
            const int64_t label = nearest[p].label;  // with NaN this may be a padding centroid
            labels[start + p] = label < search.book.K ? label : 0;
            sqdist[start + p] = nearest[p].sqdist;
        }
    }
}

// All canonical distances, (N, K), four points at a time.
template <typename X>
void all_distances(const X* x, int64_t N, Codebook& book, double* out) {
    constexpr int POINTS = 4;
    const int64_t D = book.D, K = book.K;
    book.fill();
    for (int64_t n = 0; n < N; n += POINTS) {
        const X* point[POINTS];
        for (int i = 0; i < POINTS; ++i) point[i] = x + (n + i < N ? n + i : N - 1) * D;
        for (int64_t g = 0; g < book.groups; ++g) {
            const double* group = book.exact.data + g * D * GROUP;
            vquad sum[POINTS] = {};
            for (int64_t d = 0; d < D; ++d) {
                const vquad c = *(const vquad*)(group + d * GROUP);
                for (int i = 0; i < POINTS; ++i) {
                    const vquad difference = (double)point[i][d] - c;
                    sum[i] += difference * difference;
                }
            }
            for (int i = 0; i < POINTS && n + i < N; ++i)
                for (int64_t j = 0; j < GROUP && g * GROUP + j < K; ++j)
                    out[(n + i) * K + g * GROUP + j] = sum[i][j];
        }
    }
}

}  // namespace
