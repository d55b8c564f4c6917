// Gaussian mixtures and points whose missing features differ: precisions, and the patterns of a block of
// points. The formulas are in models/conditionals.py.
//
// With the precision P of a component, the missing values x_m of a point have the conditional mean
// mu_m - P_mm^-1 P_mo (x_o - mu_o) and the covariance P_mm^-1. With this mean in place of the missing
// values, the Mahalanobis distance of the whole point is that of the present ones, and
//
//     log det Sigma_oo = log det Sigma + log det P_mm.
//
// With the mean mu_m in place of them instead, the distance is larger by |F^-1 P_mo (x_o - mu_o)|^2, where
// P_mm = F F^T.
//
// So a point costs about as much as a complete one. Besides, a pattern needs one Cholesky factor of P_mm
// per component, which is as small as the gap. Features are in units in which P has ones on its
// diagonal, and components are across lanes.
#pragma once

#include "marginals.hpp"

namespace {

// Most times that the other features reduce the variance of a feature. Beyond it, P loses too many
// digits, and the caller takes the NumPy kernels, which factor Sigma_oo.
constexpr double MOST_INFLATION = 0x1p26;
constexpr double LITTLE_INFLATION = 0x1p20; // up to which differences of distances have enough digits
constexpr int64_t FACTOR_CELLS = 1 << 18;   // of factors of a block of points: 2 MiB

// Points with gaps by their pattern: rows order[starts[p]] to order[starts[p + 1] - 1] have pattern p.
// `absent` (P, D) is 1 where a value is missing.
struct Groups {
    int64_t P;
    const int64_t *order, *starts;
    const uint8_t* absent;
};

// What all patterns need of the components, DOUBLES components across lanes. A shared covariance has
// the same numbers in all lanes of one vector.
struct Precisions {
    const Gaussians& g;
    const int64_t vectors, shapes;  // of means; of covariances
    const LaneCells lanes;
    Buffer<double> means;           // (vectors, D) of lanes
    Buffer<double> unit, per_unit, log_unit;  // 1 / sqrt(P_dd), its inverse and logarithm: (shapes, D) of lanes
    Buffer<double> precision;       // in these units: (shapes, D, D) of lanes
    Buffer<double> constant;        // that of the mixture: (vectors,) of lanes
    bool ready;                     // whether there was enough memory
    double inflation;               // most times that the other features reduce the variance of a feature

    Precisions(const Gaussians& g, const double* root, bool needed = true)
        : g(g), vectors((g.K + DOUBLES - 1) / DOUBLES), shapes(g.shared ? 1 : vectors), lanes{g.D},
          means(vectors * g.D * DOUBLES), unit(shapes * g.D * DOUBLES), per_unit(shapes * g.D * DOUBLES),
          log_unit(shapes * g.D * DOUBLES),
          precision(g.matrix ? shapes * g.D * g.D * DOUBLES : 1), constant(vectors * DOUBLES), ready(false), inflation(1.0) {
        const int64_t D = g.D, size = g.matrix && needed ? D * D * DOUBLES : 0;
        Buffer<double> factor(size), inverse(size);
        if (!means.ok() || !unit.ok() || !per_unit.ok() || !log_unit.ok() || !precision.ok() || !constant.ok()) return;
        if (!factor.ok() || !inverse.ok()) return;
        ready = true;
        if (!needed) return;
        for (int64_t k = 0; k < vectors * DOUBLES; ++k) {
            constant.data[k] = g.constant.data[k < g.K ? k : 0];
            for (int64_t d = 0; d < D; ++d)
                means.data[lanes.cell(k, d)] = k < g.K ? g.means[k * D + d] : 0.0;
        }
        for (int64_t v = 0; v < shapes; ++v) {
            for (int64_t d = 0; d < D && !g.matrix; ++d)
                for (int64_t l = 0; l < DOUBLES; ++l) at(unit, v)[d][l] = root[component(v, l) * D + d];
            if (g.matrix) invert(root, v, (vdouble*)factor.data, (vdouble*)inverse.data);
            for (int64_t d = 0; d < D; ++d) {
                at(per_unit, v)[d] = 1.0 / at(unit, v)[d];
                at(log_unit, v)[d] = logarithm(at(unit, v)[d]);
            }
        }
    }

    // Lanes without a component have a copy of the first one.
    int64_t component(int64_t v, int64_t l) const { return g.shared || v * DOUBLES + l >= g.K ? 0 : v * DOUBLES + l; }

    vdouble* at(const Buffer<double>& values, int64_t v) const { return (vdouble*)values.data + v * g.D; }

    const vdouble* of(const Buffer<double>& values, int64_t v) const {
        return (const vdouble*)values.data + v * g.D;
    }

    const vdouble* rows(int64_t v) const { return (const vdouble*)precision.data + v * g.D * g.D; }

    bool good() const { return inflation < MOST_INFLATION; }
    bool accurate() const { return inflation < LITTLE_INFLATION; }

    // Set the precisions P = W^T W with W = L^-1 of DOUBLES components, and their units.
    void invert(const double* root, int64_t v, vdouble* L, vdouble* W) {
        const int64_t D = g.D;
        vdouble *own = (vdouble*)precision.data + v * D * D, *scale = at(unit, v);
        for (int64_t i = 0; i < D; ++i)
            for (int64_t j = 0; j <= i; ++j) {
                for (int64_t l = 0; l < DOUBLES; ++l) L[i * D + j][l] = root[(component(v, l) * D + i) * D + j];
                own[i * D + j] = (vdouble){};
            }
        for (int64_t i = 0; i < D; ++i) {
            scale[i] = (vdouble){};  // for now, the variance
            for (int64_t j = 0; j <= i; ++j) scale[i] = fma(L[i * D + j], L[i * D + j], scale[i]);
            L[i * D + i] = 1.0 / L[i * D + i];
        }
        invert_lanes(L, D, W);
        for (int64_t r = 0; r < D; ++r)
            for (int64_t i = 0; i <= r; ++i) {
                const vdouble factor = W[r * D + i];
                for (int64_t j = 0; j <= i; ++j) own[i * D + j] = fma(factor, W[r * D + j], own[i * D + j]);
            }
        for (int64_t i = 0; i < D; ++i) {
            const vdouble times = scale[i] * own[i * D + i];
            for (int64_t l = 0; l < DOUBLES; ++l)
                inflation = times[l] > inflation || times[l] != times[l] ? times[l] : inflation;
            scale[i] = 1.0 / square_root(own[i * D + i]);
        }
        for (int64_t i = 0; i < D; ++i)
            for (int64_t j = 0; j <= i; ++j) own[i * D + j] = own[j * D + i] = own[i * D + j] * scale[i] * scale[j];
    }
};

// The patterns of one block of points, with components across lanes: which features are missing, Cholesky
// factors F of P_mm in units, and constants of log-densities.
struct PatternBlock {
    const Precisions& all;
    const int64_t room;               // vectors for factors
    int64_t first, count;             // number of the first pattern; of patterns
    Buffer<int64_t> features;         // (PACK, D): the missing ones, then the present ones
    Buffer<int64_t> sizes, begin;     // (PACK,): numbers m of missing features; where the factors start
    Buffer<double> factor;            // (shapes, m (m + 1) / 2) of lanes for each: F, with 1 / F_aa on the diagonal
    Buffer<double> constant;          // (PACK, vectors) of lanes
    Buffer<double> half_log_det;      // of P_mm
    Buffer<double> difference, solution, inverse;

    explicit PatternBlock(const Precisions& all)
        : all(all), room(most_of(FACTOR_CELLS / DOUBLES, all.shapes * triangle(all.g.D))), first(0), count(0),
          features(PACK * all.g.D), sizes(PACK), begin(PACK), factor(all.g.matrix ? room * DOUBLES : 0),
          constant(PACK * all.vectors * DOUBLES), half_log_det(PACK * all.vectors * DOUBLES),
          difference(all.g.D * DOUBLES), solution(all.g.D * DOUBLES), inverse(all.g.matrix ? triangle(all.g.D) * DOUBLES : 0) {}

    static int64_t triangle(int64_t n) { return n * (n + 1) / 2; }
    static int64_t most_of(int64_t a, int64_t b) { return a > b ? a : b; }

    bool ok() const {
        return features.ok() && sizes.ok() && begin.ok() && factor.ok() && constant.ok() && half_log_det.ok() &&
               difference.ok() && solution.ok() && inverse.ok();
    }

    const int64_t* missing_of(int64_t i) const { return features.data + i * all.g.D; }
    const int64_t* present_of(int64_t i) const { return missing_of(i) + sizes.data[i]; }
    const double* constants_of(int64_t i) const { return constant.data + i * all.vectors * DOUBLES; }
    const double* half_log_dets_of(int64_t i) const { return half_log_det.data + i * all.vectors * DOUBLES; }

    vdouble* factor_of(int64_t i, int64_t v) const {
        return (vdouble*)factor.data + begin.data[i] + (all.g.shared ? 0 : v) * triangle(sizes.data[i]);
    }

    // Take the patterns of up to `most` points from `start`, which has pattern p. Returns the number of
    // points whose patterns have room.
    int64_t take(const Groups& groups, int64_t start, int64_t most, int64_t p) {
        int64_t n = 0, used = 0;
        first = p, count = 0;
        for (; n < most && count < PACK; ++p) {
            const int64_t m = list(groups.absent + p * all.g.D);
            const int64_t need = all.g.matrix ? all.shapes * triangle(m) : 0;
            if (count && used + need > room) break;
            begin.data[count] = used;
            add(count++);
            used += need;
            n = groups.starts[p + 1] - start < most ? groups.starts[p + 1] - start : most;
        }
        return n;
    }

    int64_t list(const uint8_t* absent) {
        int64_t *to = features.data + count * all.g.D, m = 0, o = 0;
        for (int64_t d = 0; d < all.g.D; ++d) m += absent[d];
        for (int64_t d = 0, a = 0; d < all.g.D; ++d) {
            if (absent[d]) to[a++] = d;
            else to[m + o++] = d;
        }
        return sizes.data[count] = m;
    }

    void add(int64_t i) {
        const int64_t m = sizes.data[i], *missing = missing_of(i);
        vdouble *half = (vdouble*)half_log_det.data + i * all.vectors, *to = (vdouble*)constant.data + i * all.vectors;
        const int64_t known = i && all.g.matrix ? same_rows(i) : 0;
        for (int64_t v = 0; v < all.shapes; ++v) {
            half[v] = all.g.matrix ? factorize(i, v, known) : (vdouble){};
            for (int64_t a = 0; a < m; ++a) half[v] -= all.of(all.log_unit, v)[missing[a]];
        }
        for (int64_t v = 0; v < all.vectors; ++v) {
            if (v >= all.shapes) half[v] = half[0];
            to[v] = ((vdouble*)all.constant.data)[v] + 0.5 * LOG_2PI * (double)m - half[v];
        }
    }

    // The number of first missing features that this pattern and the one before share.
    int64_t same_rows(int64_t i) const {
        const int64_t *one = missing_of(i), *other = missing_of(i - 1);
        int64_t a = 0;
        while (a < sizes.data[i] && a < sizes.data[i - 1] && one[a] == other[a]) ++a;
        return a;
    }

    // Row by row; the first rows are those of the pattern before. Returns half of log det P_mm, in units.
    vdouble factorize(int64_t i, int64_t v, int64_t known) {
        constexpr int64_t SOME = 16;  // reciprocal pivots whose product is finite: each is at most 2^52
        const int64_t m = sizes.data[i], *missing = missing_of(i);
        const vdouble *P = all.rows(v), least = broadcast(0x1p-52);
        vdouble *F = factor_of(i, v), product = broadcast(1.0), half = {};
        if (known) {
            const vdouble* before = factor_of(i - 1, v);
            for (int64_t c = 0; c < triangle(known); ++c) F[c] = before[c];
        }
        for (int64_t a = known; a < m; ++a) {
            vdouble* row = F + triangle(a);
            for (int64_t b = 0; b <= a; ++b) row[b] = P[missing[a] * all.g.D + missing[b]];
            eliminate(F, a, row);
            vdouble pivot = row[a];
            for (int64_t b = 0; b < a; ++b) pivot -= row[b] * row[b];
            row[a] = 1.0 / square_root(pivot > least ? pivot : least);
        }
        for (int64_t a = 0; a < m; ++a) {
            product *= F[triangle(a) + a];
            if (a % SOME == SOME - 1) half -= logarithm(product), product = broadcast(1.0);
        }
        return half - logarithm(product);
    }

    // y = F^-1 y, for the first n rows.
    static void eliminate(const vdouble* F, int64_t n, vdouble* y) {
        for (int64_t b = 0; b < n; ++b) {
            const vdouble value = y[b] *= F[triangle(b) + b];
            for (int64_t c = b + 1; c < n; ++c) y[c] -= value * F[triangle(c) + b];
        }
    }

    // y = F^-T y.
    static void substitute(const vdouble* F, int64_t n, vdouble* y) {
        for (int64_t a = n - 1; a >= 0; --a) {
            const vdouble value = y[a] *= F[triangle(a) + a];
            for (int64_t b = 0; b < a; ++b) y[b] -= F[triangle(a) + b] * value;
        }
    }

    // y = -P_mo offset, for R missing features.
    template <int R>
    void multiply_present(const vdouble* P, const int64_t* missing, const int64_t* present, const vdouble* offset,
                          int64_t o, vdouble* y) const {
        const vdouble* row[R];
        vdouble sum[R] = {};
        for (int r = 0; r < R; ++r) row[r] = P + missing[r] * all.g.D;
        for (int64_t j = 0; j < o; ++j)
            for (int r = 0; r < R; ++r) sum[r] = fma(row[r][present[j]], offset[j], sum[r]);
        for (int r = 0; r < R; ++r) y[r] = -sum[r];
    }

    // Set y = -F^-1 P_mo (x_o - mu_o), in units, for a point of pattern i.
    template <typename X>
    vdouble* reduce(const X* x, int64_t i, int64_t v) const {
        const int64_t D = all.g.D, m = sizes.data[i], o = D - m, shape = all.g.shared ? 0 : v;
        const int64_t *missing = missing_of(i), *present = present_of(i);
        const vdouble *mean = all.of(all.means, v), *per_unit = all.of(all.per_unit, shape), *P = all.rows(shape);
        vdouble *offset = (vdouble*)difference.data, *y = (vdouble*)solution.data;
        for (int64_t j = 0; j < o; ++j)
            offset[j] = ((double)x[present[j]] - mean[present[j]]) * per_unit[present[j]];
        int64_t a = 0;
        for (; a + 4 <= m; a += 4) multiply_present<4>(P, missing + a, present, offset, o, y + a);
        for (; a + 2 <= m; a += 2) multiply_present<2>(P, missing + a, present, offset, o, y + a);
        if (a < m) multiply_present<1>(P, missing + a, present, offset, o, y + a);
        eliminate(factor_of(i, v), m, y);
        return y;
    }

    // Write the conditional means minus mu of one point to to[(k * D + d) * DOUBLES] for missing d.
    template <typename X>
    void impute(const X* x, int64_t i, int64_t v, double* to) const {
        const int64_t D = all.g.D, m = sizes.data[i], *missing = missing_of(i);
        const vdouble* unit = all.of(all.unit, all.g.shared ? 0 : v);
        vdouble* y = reduce(x, i, v);
        substitute(factor_of(i, v), m, y);
        const int64_t here = all.g.K - v * DOUBLES < DOUBLES ? all.g.K - v * DOUBLES : DOUBLES;
        for (int64_t a = 0; a < m; ++a) {
            const vdouble value = y[a] * unit[missing[a]];
            double* cell = to + (v * DOUBLES * D + missing[a]) * DOUBLES;
            for (int64_t l = 0; l < here; ++l, cell += D * DOUBLES) *cell = value[l];
        }
    }

    // How much less the Mahalanobis distances are than with the means in place of missing values. That of
    // lane l is written to to[l * DOUBLES].
    template <typename X>
    void write_reductions(const X* x, int64_t i, int64_t v, double* to) const {
        const int64_t m = sizes.data[i], here = all.g.K - v * DOUBLES < DOUBLES ? all.g.K - v * DOUBLES : DOUBLES;
        const vdouble* y = reduce(x, i, v);
        vdouble sum = {};
        for (int64_t a = 0; a < m; ++a) sum = fma(y[a], y[a], sum);
        for (int64_t l = 0; l < here; ++l) to[l * DOUBLES] = sum[l];
    }

    // Add mass times P_mm^-1, less the floor, to second (D, D), the lower triangle.
    void add_covariances(int64_t i, int64_t v, vdouble mass, const double* floor, vdouble* second) const {
        constexpr int64_t SOME = 4;
        const int64_t D = all.g.D, m = sizes.data[i], *missing = missing_of(i);
        const vdouble *F = factor_of(i, v), *unit = all.of(all.unit, v);
        vdouble* W = (vdouble*)inverse.data;  // F^-1
        for (int64_t a = 0; a < m; ++a) {
            vdouble* row = W + triangle(a);
            const vdouble reciprocal = F[triangle(a) + a];
            for (int64_t b = 0; b < a; ++b) row[b] = (vdouble){};
            row[a] = reciprocal;
            for (int64_t c = 0; c < a; ++c) {
                const vdouble factor = -F[triangle(a) + c] * reciprocal;
                for (int64_t b = 0; b <= c; ++b) row[b] = fma(factor, W[triangle(c) + b], row[b]);
            }
        }
        for (int64_t a = 0; a < m; ++a)
            for (int64_t b = 0; b <= a; b += SOME) {
                vdouble sum[SOME] = {};
                for (int64_t r = a; r < m; ++r) {
                    const vdouble* row = W + triangle(r);
                    for (int64_t s = 0; s < SOME; ++s) sum[s] = fma(row[a], row[b + s <= a ? b + s : b], sum[s]);
                }
                for (int64_t s = 0; s < SOME && b + s <= a; ++s) {
                    const int64_t row = missing[a], column = missing[b + s];
                    sum[s] *= unit[row] * unit[column];
                    if (row == column) sum[s] -= floor[row];
                    second[row * D + column] += mass * sum[s];
                }
            }
    }

    // The same for variances: second (D,).
    void add_variances(int64_t i, int64_t v, vdouble mass, const double* floor, vdouble* second) const {
        for (int64_t a = 0; a < sizes.data[i]; ++a) {
            const int64_t d = missing_of(i)[a];
            const vdouble unit = all.of(all.unit, v)[d], raw = unit * unit - floor[d];
            second[d] += mass * (raw > 0.0 ? raw : (vdouble){});
        }
    }
};

}  // namespace
