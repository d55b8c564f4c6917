// Log-densities of Gaussian mixtures in float64, for tiles of points across lanes. Responsibilities
// are in mixture.hpp.
//
// Full and tied covariances use the inverse of their Cholesky factor, diagonal ones the inverse of
// their standard deviations (spherical ones are passed as diagonal). Tiles are added in the order of
// the points, so a caller may divide the points among threads at multiples of PACK.
#pragma once

#include <math.h>

#include "simd.hpp"

namespace {

constexpr int PACK = 128;                     // points of a tile
constexpr int VECTORS = PACK / DOUBLES;       // the same in vectors
constexpr int ROWS = 4;                       // rows of a matrix that are processed together
constexpr int COLUMNS = BYTES == 64 ? 4 : 2;  // columns, as many as registers allow
constexpr double FARTHEST = 1e200;            // see twin.py
constexpr double LOG_2PI = 1.8378770664093454836;

struct Gaussians {
    int64_t K, D;
    bool matrix, shared;  // matrices instead of diagonals; one for all components
    int64_t size;         // cells of one whitener
    const double* means;
    double background = -INFINITY;      // log-density of points of no component; -inf for none
    Buffer<double> whitener, constant;  // and log weight - log det L - D/2 log 2 pi, of shape (K,)
    bool ready;

    // Without `log_weights`, the caller sets whiteners and constants.
    Gaussians(int64_t K, int64_t D, bool matrix, bool shared, const double* log_weights,
              const double* means, const double* root)
        : K(K), D(D), matrix(matrix), shared(shared), size(matrix ? packed(D) : D), means(means),
          whitener((shared ? 1 : K) * size), constant(K), ready(false) {
        Buffer<double> inverse(matrix ? D * D : 1);
        if (!inverse.ok() || !whitener.ok() || !constant.ok()) return;
        double log_det = 0.0;
        for (int64_t k = 0; k < K && log_weights; ++k) {
            if (!k || !shared) log_det = prepare(root + k * (matrix ? D * D : D), k, inverse.data);
            constant.data[k] = log_weights[k] - log_det - 0.5 * (double)D * LOG_2PI;
        }
        ready = true;
    }

    bool ok() const { return ready; }

    const double* whitener_of(int64_t k) const { return whitener.data + (shared ? 0 : k * size); }

    // Size of a lower triangle in blocks of ROWS rows; a block has all columns up to its last row.
    static int64_t packed(int64_t D) {
        int64_t cells = 0;
        for (int64_t i = 0; i < D; i += ROWS) cells += ROWS * (i + ROWS < D ? i + ROWS : D);
        return cells;
    }

    double prepare(const double* root, int64_t k, double* inverse) {
        double* to = whitener.data + k * size;
        double log_det = 0.0;
        for (int64_t i = 0; i < D; ++i) log_det += log(root[matrix ? i * D + i : i]);
        if (!matrix) {
            for (int64_t i = 0; i < D; ++i) to[i] = 1.0 / root[i];
            return log_det;
        }
        invert(root, inverse);
        for (int64_t i = 0; i < D; i += ROWS)
            for (int64_t j = 0; j < (i + ROWS < D ? i + ROWS : D); ++j)
                for (int64_t r = i; r < i + ROWS; ++r)
                    *to++ = r < D && j <= r ? inverse[r * D + j] : 0.0;
        return log_det;
    }

    // The lower triangle of the inverse of a lower triangle, row by row.
    void invert(const double* L, double* W) const {
        for (int64_t i = 0; i < D; ++i) {
            const double pivot = 1.0 / L[i * D + i];
            for (int64_t j = 0; j <= i; ++j) W[i * D + j] = j == i ? pivot : 0.0;
            for (int64_t m = 0; m < i; ++m) {
                const double factor = -L[i * D + m] * pivot;
                for (int64_t j = 0; j <= m; ++j) W[i * D + j] += factor * W[m * D + j];
            }
        }
    }
};

// e^x for x <= 0, and 0 below -708: the reduction of Cody and Waite, and the Taylor series.
inline vdouble exponential(vdouble x) {
    const vdouble magic = broadcast(0x1.8p52);
    vdouble shifted = fma(x, broadcast(1.4426950408889634074), magic);
    vdouble n = shifted - magic;
    vdouble r = fma(n, broadcast(-0x1.a39ef35793c76p-33), fma(n, broadcast(-0x1.62e42fee00000p-1), x));
    vdouble sum = broadcast(1.0 / 6227020800.0);
    constexpr double factors[] = {1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0,
                                  1.0 / 362880.0,    1.0 / 40320.0,    1.0 / 5040.0,
                                  1.0 / 720.0,       1.0 / 120.0,      1.0 / 24.0,
                                  1.0 / 6.0,         0.5,              1.0,
                                  1.0};
    for (double factor : factors) sum = fma(sum, r, broadcast(factor));
    vlong scale = ((vlong)shifted + 1023) << 52;
    return x > -708.0 ? sum * (vdouble)scale : (vdouble){};
}

// log x for normal x > 0: x = 2^n m with m near 1, and the series of 2 artanh((m - 1) / (m + 1)).
inline vdouble logarithm(vdouble x) {
    constexpr uint64_t ONE = 0x3ff0000000000000, HALF_ROOT = 0x3fe6a09e667f3bcd, MAGIC = 0x4338000000000000;
    const vulong bits = (vulong)x, exponent = ((bits + (ONE - HALF_ROOT)) >> 52) - 1023;
    const vdouble n = (vdouble)(exponent + MAGIC) - 0x1.8p52, m = (vdouble)(bits - (exponent << 52));
    const vdouble s = (m - 1.0) / (m + 1.0), z = s * s;
    vdouble sum = broadcast(1.0 / 19.0);
    constexpr double factors[] = {1.0 / 17.0, 1.0 / 15.0, 1.0 / 13.0, 1.0 / 11.0,
                                  1.0 / 9.0,  1.0 / 7.0,  1.0 / 5.0,  1.0 / 3.0};
    for (double factor : factors) sum = fma(sum, z, broadcast(factor));
    const vdouble small = fma(n, broadcast(0x1.a39ef35793c76p-33), 2.0 * fma(s * z, sum, s));
    return fma(n, broadcast(0x1.62e42fee00000p-1), small);
}

// Write the first n lanes, or all.
inline void write_first(vdouble values, int64_t n, double* to) {
    if (n >= DOUBLES) return store(to, values);
    for (int64_t l = 0; l < n; ++l) to[l] = values[l];
}

// Points of a tile (D, PACK), their joint log-densities (K, PACK), and space for (x - mu).
struct Tile {
    Buffer<double> points, joint, difference, scaled, w;

    Tile(int64_t K, int64_t D)
        : points(D * PACK), joint(K * PACK), difference(rounded_up(D, ROWS) * PACK),
          scaled(rounded_up(D, ROWS) * PACK), w(PACK) {
        if (!ok()) return;
        for (int64_t i = D * PACK; i < rounded_up(D, ROWS) * PACK; ++i)
            difference.data[i] = scaled.data[i] = 0.0;
    }

    bool ok() const {
        return points.ok() && joint.ok() && difference.ok() && scaled.ok() && w.ok();
    }

    // Writes whole cache lines. Missing points are copies of the first one, with weight 0.
    template <typename X>
    void load(const X* x, const double* weight, int64_t n, int64_t D) {
        constexpr int LINE = 8;
        for (int64_t start = 0; start < PACK; start += LINE) {
            const X* from[LINE];
            for (int64_t p = 0; p < LINE; ++p) {
                const bool there = start + p < n;
                from[p] = x + (there ? start + p : 0) * D;
                w.data[start + p] = there && weight ? weight[start + p] : 0.0;
            }
            for (int64_t d = 0; d < D; ++d)
                for (int64_t p = 0; p < LINE; ++p)
                    points.data[d * PACK + start + p] = (double)from[p][d];
        }
    }

    vdouble* row(const Buffer<double>& of, int64_t i) const { return (vdouble*)of.data + i * VECTORS; }
};

// |L^-1 (x - mu)|^2 of POINT_VECTORS vectors of points, from x - mu (D, POINT_VECTORS) and the packed
// inverse `w`.
inline void whiten_rows(const vdouble* difference, const double* w, int64_t D, vdouble* out) {
    constexpr int V = POINT_VECTORS;
    for (int64_t i = 0; i < D; i += ROWS) {
        vdouble sum[ROWS][V] = {};
        const vdouble* x = difference;
        for (int64_t j = 0; j < i; ++j, w += ROWS, x += V)
            for (int r = 0; r < ROWS; ++r) {
                const vdouble weight = broadcast(w[r]);
                for (int v = 0; v < V; ++v) sum[r][v] = fma(x[v], weight, sum[r][v]);
            }
#pragma GCC unroll 4
        for (int c = 0; c < ROWS; ++c) {  // the triangle
            if (i + c >= D) break;
            for (int r = c; r < ROWS; ++r) {
                const vdouble weight = broadcast(w[r]);
                for (int v = 0; v < V; ++v) sum[r][v] = fma(x[v], weight, sum[r][v]);
            }
            w += ROWS, x += V;
        }
        for (int r = 0; r < ROWS; ++r)
            for (int v = 0; v < V; ++v) out[v] = fma(sum[r][v], sum[r][v], out[v]);
    }
}

inline void whiten_matrix(const Tile& tile, const Gaussians& g, int64_t k, int64_t start, vdouble* out) {
    constexpr int V = POINT_VECTORS;
    const double* mean = g.means + k * g.D;
    vdouble* difference = (vdouble*)tile.difference.data;
    for (int64_t d = 0; d < g.D; ++d)
        for (int v = 0; v < V; ++v)
            difference[d * V + v] = tile.row(tile.points, d)[start + v] - mean[d];
    whiten_rows(difference, g.whitener_of(k), g.D, out);
}

inline void whiten_diagonal(const Tile& tile, const Gaussians& g, int64_t k, int64_t start, vdouble* out) {
    constexpr int V = POINT_VECTORS;
    const double *mean = g.means + k * g.D, *w = g.whitener_of(k);
    const vdouble* x = tile.row(tile.points, 0) + start;
    vdouble sum[V] = {};
    for (int64_t d = 0; d < g.D; ++d, x += VECTORS) {
        const vdouble centre = broadcast(mean[d]), weight = broadcast(w[d]);
        for (int v = 0; v < V; ++v) {
            const vdouble whitened = (x[v] - centre) * weight;
            sum[v] = fma(whitened, whitened, sum[v]);
        }
    }
    for (int v = 0; v < V; ++v) out[v] = sum[v];
}

// log pi_k N(x | mu_k, Sigma_k) for all points of the tile and all components.
void log_joint(const Tile& tile, const Gaussians& g) {
    for (int64_t start = 0; start < VECTORS; start += POINT_VECTORS)
        for (int64_t k = 0; k < g.K; ++k) {
            vdouble square[POINT_VECTORS] = {};
            if (g.matrix) whiten_matrix(tile, g, k, start, square);
            else whiten_diagonal(tile, g, k, start, square);
            for (int v = 0; v < POINT_VECTORS; ++v) {
                // NaN, from an overflow within the sum, is as far as FARTHEST.
                vdouble distance = square[v] < FARTHEST ? square[v] : broadcast(FARTHEST);
                tile.row(tile.joint, k)[start + v] = g.constant.data[k] - 0.5 * distance;
            }
        }
}

}  // namespace
