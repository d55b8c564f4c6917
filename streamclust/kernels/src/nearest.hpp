// Nearest centroids: float32 rules out most centroids, float64 compares the rest.
//
// A label is the first index of the smallest *canonical* distance
//
//     d(x, c) = sum over d = 0 .. D-1, in this order, of (x_d - c_d)^2    in float64, no FMA,
//
// so that all targets and NumPy return the same bits. Distances are first computed in float32 as
// |c|^2 - 2 x.c, with points across lanes and four centroids at a time. Only the best group of four
// and the second-best distance are stored, with a bound of the rounding error. If the second-best is
// farther than the bound, canonical distances compare the best group only; otherwise they compare
// all centroids.
#pragma once

#include <math.h>

#include "simd.hpp"

namespace {

constexpr int GROUP = 4;                          // centroids that are compared together
constexpr int TILE = FLOATS * POINT_VECTORS;      // points across lanes

// Centroids in groups of four: unchanged in float64, and shifted and scaled in float32. A group is
// filled at its first use.
struct Codebook {
    const double* C;
    int64_t K, D, groups;
    Buffer<double> exact;   // (groups, D, GROUP), padded by infinity
    Buffer<float> screen;   // (groups, D, GROUP): -2 c
    Buffer<float> square;   // (groups, GROUP): |c|^2, padded by infinity
    Buffer<double> shift;   // (D,): the centroids' mean
    double scale, widest;   // c' = (c - shift) * scale is about 1 wide; its largest norm
    bool filled;

    Codebook(const double* C, int64_t K, int64_t D)
        : C(C), K(K), D(D), groups(rounded_up(K, GROUP) / GROUP), exact(groups * D * GROUP),
          screen(groups * D * GROUP), square(groups * GROUP), shift(D), scale(1.0), widest(0.0),
          filled(false) {}

    bool ok() const { return exact.ok() && screen.ok() && square.ok() && shift.ok(); }

    void fill() {
        if (filled) return;
        centre();
        for (int64_t g = 0; g < groups; ++g) fill_group(g);
        filled = true;
    }

    void centre() {
        double* mean = shift.data;
        for (int64_t d = 0; d < D; ++d) mean[d] = 0.0;
        int64_t k = 0;
        for (const double* c = C; k + 4 <= K; k += 4, c += 4 * D)
            for (int64_t d = 0; d < D; ++d) mean[d] += (c[d] + c[D + d]) + (c[2 * D + d] + c[3 * D + d]);
        for (; k < K; ++k)
            for (int64_t d = 0; d < D; ++d) mean[d] += C[k * D + d];
        for (int64_t d = 0; d < D; ++d) mean[d] /= (double)K;
        const double largest = farthest();
        if (largest > 0.0 && largest < INFINITY) scale = ldexp(1.0, -ilogb(largest));
    }

    // The largest difference from the mean, in any feature.
    double farthest() const {
        vdouble lanes = {};
        double largest = 0.0;
        for (int64_t k = 0; k < K; ++k) {
            const double* c = C + k * D;
            int64_t d = 0;
            for (; d + DOUBLES <= D; d += DOUBLES) {
                const vdouble off = load(c + d) - load(shift.data + d);
                lanes = most(lanes, most(off, -off));
            }
            for (; d < D; ++d) {
                const double off = fabs(c[d] - shift.data[d]);
                largest = off > largest ? off : largest;
            }
        }
        for (int i = 0; i < DOUBLES; ++i) largest = lanes[i] > largest ? lanes[i] : largest;
        return largest;
    }

    void fill_group(int64_t g) {
        const int64_t there = K - g * GROUP;
        const double* c[GROUP];
        for (int64_t j = 0; j < GROUP; ++j) c[j] = C + (g * GROUP + (j < there ? j : 0)) * D;
        vquad sum[GROUP] = {};
        int64_t d = 0;
        for (; d + GROUP <= D; d += GROUP) {
            vquad rows[GROUP];
            for (int j = 0; j < GROUP; ++j) rows[j] = load4(c[j] + d);
            transpose4(rows);
            for (int i = 0; i < GROUP; ++i) sum[i] += put(g, d + i, rows[i]);
        }
        for (; d < D; ++d) sum[0] += put(g, d, (vquad){c[0][d], c[1][d], c[2][d], c[3][d]});
        const vquad total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        for (int64_t j = 0; j < GROUP; ++j) {
            square.data[g * GROUP + j] = j < there ? (float)total[j] : INFINITY;
            widest = fmax(widest, sqrt(total[j]));
            for (d = 0; d < D && j >= there; ++d) exact.data[(g * D + d) * GROUP + j] = INFINITY;
        }
    }

    // Feature `d` of a group's centroids. Returns its squares, shifted and scaled.
    vquad put(int64_t g, int64_t d, vquad c) {
        *(vquad*)(exact.data + (g * D + d) * GROUP) = c;
        c = (c - shift.data[d]) * scale;
        *(vfloat4*)(screen.data + (g * D + d) * GROUP) = narrowed(-2.0 * c);
        return c * c;
    }
};

// The points of one tile, shifted and scaled like the centroids: (D, TILE).
template <typename X>
void transpose(const X* x, int64_t n, const Codebook& book, float* tile) {
    const int64_t D = book.D;
    const double* shift = book.shift.data;
    const double scale = book.scale;
    int64_t p = 0;
    for (; p + 4 <= n; p += 4) {
        const X* from = x + p * D;
        float* to = tile + p;
        int64_t d = 0;
        for (; d + 4 <= D; d += 4) {
            vfloat4 rows[4];
            for (int i = 0; i < 4; ++i)
                rows[i] = narrowed((load4(from + i * D + d) - load4(shift + d)) * scale);
            transpose4(rows);
            for (int i = 0; i < 4; ++i) *(vfloat4*)(to + (d + i) * TILE) = rows[i];
        }
        for (; d < D; ++d) {
            vquad four = {(double)from[d], (double)from[D + d], (double)from[2 * D + d],
                          (double)from[3 * D + d]};
            *(vfloat4*)(to + d * TILE) = narrowed((four - shift[d]) * scale);
        }
    }
    for (; p < n; ++p)
        for (int64_t d = 0; d < D; ++d)
            tile[d * TILE + p] = (float)(((double)x[p * D + d] - shift[d]) * scale);
    for (; p < TILE; ++p)
        for (int64_t d = 0; d < D; ++d) tile[d * TILE + p] = 0.0f;
}

struct Screened {
    alignas(64) float best[TILE], second[TILE];  // smallest of the best group, and of all others
    alignas(64) int32_t group[TILE];
};

void screen(const float* tile, const Codebook& book, Screened& out) {
    constexpr int V = POINT_VECTORS;
    const int64_t D = book.D;
    vfloat best[V], second[V];
    vint group[V];
    for (int v = 0; v < V; ++v) {
        best[v] = second[v] = broadcast(INFINITY);
        group[v] = (vint){};
    }
    const float* c = book.screen.data;
    for (int64_t g = 0; g < book.groups; ++g) {
        vfloat sum[GROUP][V];
        for (int j = 0; j < GROUP; ++j)
            for (int v = 0; v < V; ++v) sum[j][v] = broadcast(book.square.data[g * GROUP + j]);
        const float* t = tile;
        for (int64_t d = 0; d < D; ++d, t += TILE, c += GROUP) {
            vfloat x[V];
            for (int v = 0; v < V; ++v) x[v] = *(const vfloat*)(t + v * FLOATS);
            for (int j = 0; j < GROUP; ++j) {
                vfloat weight = broadcast(c[j]);
                for (int v = 0; v < V; ++v) sum[j][v] = fma(x[v], weight, sum[j][v]);
            }
        }
        vint here = (int32_t)g - (vint){};
        for (int v = 0; v < V; ++v) {
            vfloat least4 = least(least(sum[0][v], sum[1][v]), least(sum[2][v], sum[3][v]));
            second[v] = least(second[v], most(best[v], least4));
            group[v] = where_less(least4, best[v], here, group[v]);
            best[v] = least(least4, best[v]);
        }
    }
    for (int v = 0; v < V; ++v) {
        *(vfloat*)(out.best + v * FLOATS) = best[v];
        *(vfloat*)(out.second + v * FLOATS) = second[v];
        *(vint*)(out.group + v * FLOATS) = group[v];
    }
}

// For each point of a tile: whether rounding may have hidden the nearest group.
//
// With t = |x'| and c = `widest`, the error of a float32 distance is at most
// (D + 4) u32 (2 t c + c^2), that of a canonical one (D + 2) u64 (t + c)^2. The bound is twice that
// for two distances, plus its own rounding and the underflow of squares. With NaN the result is true.
void doubt(const float* tile, const Codebook& book, const Screened& found, bool* unsure) {
    alignas(64) float norm[TILE];
    for (int p = 0; p < TILE; ++p) norm[p] = 0.0f;
    for (int64_t d = 0; d < book.D; ++d)
        for (int p = 0; p < TILE; ++p) norm[p] += tile[d * TILE + p] * tile[d * TILE + p];
    const float c = (float)book.widest;
    const float u32 = (float)(book.D + 4) * 2.4f * 0x1p-24f, u64 = (float)(book.D + 4) * 2.4f * 0x1p-53f;
    const float underflow = (float)((double)(book.D + 4) * 0x1p-1070 * book.scale * book.scale);
    for (int p = 0; p < TILE; ++p) {
        float t = sqrtf(norm[p]);
        float bound = u32 * (2.0f * t * c + c * c) + u64 * (t + c) * (t + c) + underflow;
        unsure[p] = !(found.second[p] - found.best[p] > bound);
    }
}

// Canonical distances of one point to the four centroids of a group.
template <typename X>
vquad distances(const X* x, const double* group, int64_t D) {
    vquad sum = {};
    for (int64_t d = 0; d < D; ++d) {
        vquad difference = (double)x[d] - *(const vquad*)(group + d * GROUP);
        sum += difference * difference;
    }
    return sum;
}

struct Nearest {
    int64_t label;
    double sqdist;
};

// The first of the least of a group. Branches would be slower, because they can't be predicted.
inline Nearest least(vquad d, int64_t first) {
    const vquad all = least_lane(d);
    return {first + first_true(d == all), all[0]};
}

template <typename X>
Nearest decide(const X* x, const Codebook& book, int64_t from, int64_t to) {
    Nearest nearest = {from * GROUP, INFINITY};
    for (int64_t g = from; g < to; ++g) {
        Nearest here = least(distances(x, book.exact.data + g * book.D * GROUP, book.D), g * GROUP);
        if (here.sqdist < nearest.sqdist) nearest = here;
    }
    return nearest;
}

// The same for four points at a time, each with its own group: four independent sums.
template <typename X>
void decide4(const X* x, const int32_t* group, const Codebook& book, Nearest* nearest) {
    const int64_t D = book.D;
    const double* c[4];
    for (int i = 0; i < 4; ++i) c[i] = book.exact.data + group[i] * D * GROUP;
    vquad sum[4] = {};
    for (int64_t d = 0; d < D; ++d)
        for (int i = 0; i < 4; ++i) {
            vquad difference = (double)x[i * D + d] - *(const vquad*)(c[i] + d * GROUP);
            sum[i] += difference * difference;
        }
    for (int i = 0; i < 4; ++i) nearest[i] = least(sum[i], group[i] * GROUP);
}

template <typename X>
void assign_tile(const X* x, int64_t n, Codebook& book, float* tile, Nearest* nearest) {
    book.fill();
    Screened found = {};
    bool unsure[TILE] = {};
    if (book.groups > 1) {
        transpose(x, n, book, tile);
        screen(tile, book, found);
        doubt(tile, book, found, unsure);
    }
    int64_t p = 0;
    for (; p + 4 <= n; p += 4) decide4(x + p * book.D, found.group + p, book, nearest + p);
    for (; p < n; ++p)
        nearest[p] = decide(x + p * book.D, book, found.group[p], found.group[p] + 1);
    for (p = 0; p < n; ++p)
        if (unsure[p]) nearest[p] = decide(x + p * book.D, book, 0, book.groups);
}

}  // namespace
