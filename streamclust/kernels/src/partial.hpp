// K-means of points with missing values, by partial distances. The formulas are in models/partial.py.
//
// Points that share a missingness pattern are assigned as complete points with fewer features, if they
// are enough. Of other points, float32 rules out most centroids as for complete points (nearest.hpp):
//
//     sum over present d of (c_d^2 - 2 x_d c_d),
//
// a product of the point and one of the 0s and 1s that tell which features are present.
#pragma once

#include "kmeans.hpp"
#include "patterns.hpp"

namespace {

constexpr int64_t ALIKE = 64;      // points of one pattern that are worth a codebook of their own
constexpr int64_t PIECE = 2048;    // points that one thread assigns at a time

// The squared differences of the present values of one point to all centroids, added from the first
// feature on. `centroids` (D, vectors) has centroids across lanes.
template <typename X>
void partial_distances(const X* x, const int64_t* present, int64_t o, const vdouble* centroids, int64_t vectors,
                       vdouble* out) {
    constexpr int64_t SOME = 4;
    for (int64_t v = 0; v < vectors; v += SOME) {
        vdouble sum[SOME] = {};
        const vdouble* from[SOME];
        for (int64_t j = 0; j < SOME; ++j) from[j] = centroids + (v + j < vectors ? v + j : v);
        for (int64_t i = 0; i < o; ++i) {
            const vdouble value = broadcast((double)x[present[i]]);
            for (int64_t j = 0; j < SOME; ++j) {
                const vdouble difference = value - from[j][present[i] * vectors];
                sum[j] += difference * difference;
            }
        }
        for (int64_t j = 0; j < SOME && v + j < vectors; ++j) out[v + j] = sum[j];
    }
}

// The first of the least distances. Lanes beyond K have copies of the last centroid.
inline int64_t first_least(const vdouble* distances, int64_t vectors) {
    vdouble best = distances[0];
    vlong where = {};
    for (int64_t v = 1; v < vectors; ++v) {
        const vlong less = distances[v] < best;
        best = distances[v] < best ? distances[v] : best;
        where = (where & ~less) | (less & v);
    }
    int64_t lane = 0;
    for (int64_t l = 1; l < DOUBLES; ++l)
        if (best[l] < best[lane] || (best[l] == best[lane] && where[l] < where[lane])) lane = l;
    return where[lane] * DOUBLES + lane;
}

// Add a weighted point to the first moment about its centroid.
template <typename X>
void add_present(const X* x, double w, const double* centroid, int64_t D, double* first) {
    int64_t d = 0;
    for (; d + DOUBLES <= D; d += DOUBLES) {
        const vdouble value = load(x + d), part = w * (value - load(centroid + d));
        store(first + d, load(first + d) + (vdouble)((vlong)part & (value == value)));
    }
    for (; d < D; ++d)
        if (x[d] == x[d]) first[d] += w * ((double)x[d] - centroid[d]);
}

// Nearest centroids of points whose patterns differ.
struct PartialSearch {
    Codebook book;
    const int64_t vectors;
    Buffer<float> square;       // (groups, D, GROUP): squares of shifted and scaled centroids
    Buffer<double> centroids;   // (D, vectors) of lanes
    Buffer<double> distances;   // (vectors,) of lanes
    Buffer<int64_t> present;
    Buffer<float> tile, there;  // (D, TILE): values, and 1 where there is one; else both are 0

    PartialSearch(const double* C, int64_t K, int64_t D)
        : book(C, K, D), vectors((K + DOUBLES - 1) / DOUBLES), square(book.groups * D * GROUP),
          centroids(D * vectors * DOUBLES), distances(vectors * DOUBLES), present(D), tile(D * TILE), there(D * TILE) {}

    bool ok() const {
        return book.ok() && square.ok() && centroids.ok() && distances.ok() && present.ok() && tile.ok() && there.ok();
    }

    void fill() {
        if (book.filled) return;
        book.fill();
        for (int64_t i = 0; i < book.groups * book.D * GROUP; ++i)
            square.data[i] = 0.25f * (book.screen.data[i] * book.screen.data[i]);
        for (int64_t d = 0; d < book.D; ++d)
            for (int64_t k = 0; k < vectors * DOUBLES; ++k)
                centroids.data[d * vectors * DOUBLES + k] = book.C[(k < book.K ? k : book.K - 1) * book.D + d];
    }

    // Assign up to TILE points.
    template <typename X>
    void nearest(const X* const* x, int64_t n, Nearest* out) {
        Screened found = {};
        bool unsure[TILE] = {};
        alignas(64) float count[TILE];
        fill();
        load(x, n);
        if (book.groups > 1) screen(found);
        doubt(found, unsure, count);
        for (int64_t p = 0; p < n; ++p) {
            out[p] = unsure[p] && book.groups > 1 ? compare_all(x[p]) : compare_group(x[p], found.group[p]);
            out[p].sqdist *= (double)book.D / (double)count[p];
        }
    }

    template <typename X>
    void load(const X* const* x, int64_t n) {
        const double scale = book.scale;
        for (int64_t p = 0; p < TILE; p += 4) {
            const X* from[4];
            for (int64_t j = 0; j < 4; ++j) from[j] = x[p + j < n ? p + j : 0];
            for (int64_t d = 0; d < book.D; ++d) {
                const vquad four = {(double)from[0][d], (double)from[1][d], (double)from[2][d], (double)from[3][d]};
                const vlong4 here = four == four;
                const vquad value = (vquad)((vlong4)((four - book.shift.data[d]) * scale) & here);
                *(vfloat4*)(tile.data + d * TILE + p) = narrowed(value);
                *(vfloat4*)(there.data + d * TILE + p) = narrowed(here ? (vquad){1.0, 1.0, 1.0, 1.0} : (vquad){});
            }
        }
    }

    // As `screen` for complete points.
    void screen(Screened& out) const {
        constexpr int V = POINT_VECTORS;
        vfloat best[V], second[V];
        vint group[V];
        for (int v = 0; v < V; ++v) {
            best[v] = second[v] = broadcast(INFINITY);
            group[v] = (vint){};
        }
        const float *c = book.screen.data, *c2 = square.data;
        for (int64_t g = 0; g < book.groups; ++g) {
            vfloat sum[GROUP][V];
            for (int j = 0; j < GROUP; ++j)
                for (int v = 0; v < V; ++v) sum[j][v] = broadcast(g * GROUP + j < book.K ? 0.0f : INFINITY);
            const float *t = tile.data, *m = there.data;
            for (int64_t d = 0; d < book.D; ++d, t += TILE, m += TILE, c += GROUP, c2 += GROUP) {
                vfloat x[V], one[V];
                for (int v = 0; v < V; ++v) x[v] = *(const vfloat*)(t + v * FLOATS), one[v] = *(const vfloat*)(m + v * FLOATS);
                for (int j = 0; j < GROUP; ++j) {
                    const vfloat factor = broadcast(c[j]), squared = broadcast(c2[j]);
                    for (int v = 0; v < V; ++v) sum[j][v] = fma(one[v], squared, fma(x[v], factor, sum[j][v]));
                }
            }
            const vint here = (int32_t)g - (vint){};
            for (int v = 0; v < V; ++v) {
                const vfloat least4 = least(least(sum[0][v], sum[1][v]), least(sum[2][v], sum[3][v]));
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

    // As `doubt` for complete points, with twice as many products; and the number of present values.
    void doubt(const Screened& found, bool* unsure, float* count) const {
        alignas(64) float norm[TILE];
        for (int p = 0; p < TILE; ++p) norm[p] = count[p] = 0.0f;
        for (int64_t d = 0; d < book.D; ++d)
            for (int p = 0; p < TILE; ++p) {
                norm[p] += tile.data[d * TILE + p] * tile.data[d * TILE + p];
                count[p] += there.data[d * TILE + p];
            }
        const float c = (float)book.widest, terms = (float)(2 * book.D + 4);
        const float u32 = terms * 2.4f * 0x1p-24f, u64 = terms * 2.4f * 0x1p-53f;
        const float underflow = (float)((double)terms * 0x1p-1070 * book.scale * book.scale);
        for (int p = 0; p < TILE; ++p) {
            const float t = sqrtf(norm[p]);
            const float bound = u32 * (2.0f * t * c + c * c) + u64 * (t + c) * (t + c) + underflow;
            unsure[p] = !(found.second[p] - found.best[p] > bound);
        }
    }

    template <typename X>
    Nearest compare_group(const X* x, int64_t g) const {
        const double* c = book.exact.data + g * book.D * GROUP;
        vquad sum = {};
        for (int64_t d = 0; d < book.D; ++d) {
            const vquad value = (double)x[d] - (vquad){}, difference = value - *(const vquad*)(c + d * GROUP);
            const vquad present = (vquad)((vlong4)difference & (value == value));
            sum += present * present;
        }
        return least(sum, g * GROUP);
    }

    template <typename X>
    Nearest compare_all(const X* x) const {
        int64_t o = 0;
        for (int64_t d = 0; d < book.D; ++d) present.data[o] = d, o += x[d] == x[d];
        partial_distances(x, present.data, o, (const vdouble*)centroids.data, vectors, (vdouble*)distances.data);
        const int64_t label = first_least((const vdouble*)distances.data, vectors);
        return {label, distances.data[label]};
    }
};

// The arguments of a step for the points `rows` (n,), which have gaps. Weight and moments may be null.
struct PartialStep {
    const double* w;
    const int64_t* rows;
    int64_t n, K, D;
    const double* C;
    int64_t threads;
    double *weight, *first;
    int64_t* labels;
    double *sqdist, *inertia;
};

// Nearest centroids of points, sorted by pattern: first the pieces of common patterns.
template <typename X>
struct PartialAssign : Unordered {
    const X* x;
    const double* C;
    const int64_t K, D;
    int64_t *labels, P;
    double* sqdist;
    Buffer<int64_t> order, starts, rare, begin;  // begin (pieces, 2): first and last row in `order` or `rare`
    int64_t common, pieces;                      // number of pieces in `order`; of all

    PartialAssign(const X* x, const PartialStep& step)
        : x(x), C(step.C), K(step.K), D(step.D), labels(step.labels), P(0), sqdist(step.sqdist), order(step.n),
          starts(step.n + 2), rare(step.n), begin(2 * (step.n + 1)), common(0), pieces(0) {
        if (!order.ok() || !starts.ok() || !rare.ok() || !begin.ok()) return;
        for (int64_t i = 0; i < step.n; ++i) order.data[i] = step.rows[i];
        if (step.n < ALIKE) starts.data[0] = 0, starts.data[P = 1] = step.n;
        else P = sort_by_pattern(x, D, order.data, step.n, starts.data);
        divide();
    }

    bool ok() const { return order.ok() && starts.ok() && rare.ok() && begin.ok() && P >= 0; }

    // Cut the rows of common patterns into pieces; then all others, in their order.
    void divide() {
        int64_t left = 0;
        for (int64_t p = 0; p < P; ++p) {
            const int64_t end = starts.data[p + 1];
            if (end - starts.data[p] >= ALIKE)
                for (int64_t i = starts.data[p]; i < end; i += PIECE) cut(i, i + PIECE < end ? i + PIECE : end);
            else
                for (int64_t i = starts.data[p]; i < end; ++i) rare.data[left++] = order.data[i];
        }
        common = pieces;
        for (int64_t i = 0; i < left; i += PIECE) cut(i, i + PIECE < left ? i + PIECE : left);
    }

    void cut(int64_t from, int64_t to) {
        begin.data[2 * pieces] = from, begin.data[2 * pieces + 1] = to;
        ++pieces;
    }

    struct Scratch : PartialSearch {
        explicit Scratch(const PartialAssign& work) : PartialSearch(work.C, work.K, work.D) {}
    };

    bool range(PartialSearch& search, int64_t piece, int64_t, int64_t) {
        const int64_t from = begin.data[2 * piece], n = begin.data[2 * piece + 1] - from;
        if (piece < common) return assign_alike(order.data + from, n);
        const int64_t* rows = rare.data + from;
        for (int64_t start = 0; start < n; start += TILE) {
            const int64_t here = n - start < TILE ? n - start : TILE;
            const X* point[TILE];
            Nearest nearest[TILE];
            for (int64_t p = 0; p < here; ++p) point[p] = x + rows[start + p] * D;
            search.nearest(point, here, nearest);
            for (int64_t p = 0; p < here; ++p)
                labels[rows[start + p]] = nearest[p].label, sqdist[rows[start + p]] = nearest[p].sqdist;
        }
        return true;
    }

    // Points of one pattern, as complete points with fewer features.
    bool assign_alike(const int64_t* rows, int64_t n) {
        constexpr int64_t TOGETHER = 512;
        Buffer<int64_t> present(D), found(TOGETHER);
        if (!present.ok() || !found.ok()) return false;
        int64_t o = 0;
        for (int64_t d = 0; d < D; ++d) present.data[o] = d, o += x[*rows * D + d] == x[*rows * D + d];
        if (o == 0) {  // the caller refuses such points
            for (int64_t p = 0; p < n; ++p) labels[rows[p]] = 0, sqdist[rows[p]] = NAN;
            return true;
        }
        Buffer<double> centroids(K * o), square(TOGETHER);
        Buffer<X> points(TOGETHER * o);
        if (!centroids.ok() || !square.ok() || !points.ok()) return false;
        for (int64_t k = 0; k < K; ++k)
            for (int64_t j = 0; j < o; ++j) centroids.data[k * o + j] = C[k * D + present.data[j]];
        Search search(centroids.data, K, o, sizeof(X) == sizeof(float));
        if (!search.ok()) return false;
        for (int64_t start = 0; start < n; start += TOGETHER) {
            const int64_t here = n - start < TOGETHER ? n - start : TOGETHER;
            for (int64_t p = 0; p < here; ++p)
                for (int64_t j = 0; j < o; ++j) points.data[p * o + j] = x[rows[start + p] * D + present.data[j]];
            kmeans_assign(points.data, here, search, found.data, square.data);
            for (int64_t p = 0; p < here; ++p) {
                labels[rows[start + p]] = found.data[p];
                sqdist[rows[start + p]] = square.data[p] * ((double)D / (double)o);
            }
        }
        return true;
    }
};

// Add the points in their order. The coordinate of the nearest centroid stands for a missing value, so it
// adds nothing to the moments about the centroid.
template <typename X>
bool partial_step(const X* x, const PartialStep& step) {
    const int64_t n = step.n, K = step.K, D = step.D;
    PartialAssign<X> work(x, step);
    const double multiplications = (double)n * (double)K * (double)D;
    if (!work.ok() || !share(work, work.pieces, 1, worth(multiplications, step.threads))) return false;
    if (!step.weight) return true;
    Buffer<double> chunk(K * (D + 1));
    if (!chunk.ok()) return false;
    for (int64_t start = 0; start < n; start += CHUNK) {
        for (int64_t i = 0; i < K * (D + 1); ++i) chunk.data[i] = 0.0;
        for (int64_t i = start; i < n && i < start + CHUNK; ++i) {
            const int64_t row = step.rows[i], k = step.labels[row];
            add_present(x + row * D, step.w[row], step.C + k * D, D, chunk.data + K + k * D);
            chunk.data[k] += step.w[row];
            *step.inertia += step.w[row] * step.sqdist[row];
        }
        add(step.weight, chunk.data, K);
        add(step.first, chunk.data + K, K * D);
    }
    return true;
}

}  // namespace
