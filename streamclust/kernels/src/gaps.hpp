// Gaussian mixtures and points with missing values: the expected moments of whole points, and marginal
// log-densities. The formulas are in models/conditionals.py.
//
// With the precision P of a component, the missing values x_m of a point have the conditional mean
// mu_m - P_mm^-1 P_mo (x_o - mu_o) and the covariance P_mm^-1. With this mean in place of the missing
// values, the Mahalanobis distance of the whole point is that of the present ones, and
//
//     log det Sigma_oo = log det Sigma + log det P_mm.
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
constexpr int64_t IMPUTED_CELLS = 1 << 17;  // of imputed values: 1 MiB
constexpr int64_t FEWEST_ALIKE = 32;        // points, besides D, of a pattern with a marginal mixture of its own

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
    bool ready, good;               // whether there was enough memory; whether P has enough digits

    Precisions(const Gaussians& g, const double* root, bool needed = true)
        : g(g), vectors((g.K + DOUBLES - 1) / DOUBLES), shapes(g.shared ? 1 : vectors), lanes{g.D},
          means(vectors * g.D * DOUBLES), unit(shapes * g.D * DOUBLES), per_unit(shapes * g.D * DOUBLES),
          log_unit(shapes * g.D * DOUBLES),
          precision(g.matrix ? shapes * g.D * g.D * DOUBLES : 1), ready(false), good(true) {
        const int64_t D = g.D, size = g.matrix ? D * D : 1;
        Buffer<double> inverse(size), own(size);
        if (!means.ok() || !unit.ok() || !per_unit.ok() || !log_unit.ok() || !precision.ok()) return;
        if (!inverse.ok() || !own.ok()) return;
        ready = true;
        if (!needed) return;
        for (int64_t k = 0; k < vectors * DOUBLES; ++k)
            for (int64_t d = 0; d < D; ++d)
                means.data[lanes.cell(k, d)] = k < g.K ? g.means[k * D + d] : 0.0;
        for (int64_t k = 0; k < shapes * DOUBLES; ++k) {
            const int64_t from = g.shared || k >= g.K ? 0 : k;  // lanes without a component have a copy
            if (g.matrix) invert(root + from * D * D, inverse.data, own.data);
            for (int64_t d = 0; d < D; ++d) {
                const double scale = g.matrix ? 1.0 / sqrt(own.data[d * D + d]) : root[from * D + d];
                unit.data[lanes.cell(k, d)] = scale, per_unit.data[lanes.cell(k, d)] = 1.0 / scale;
                log_unit.data[lanes.cell(k, d)] = log(scale);
            }
            for (int64_t i = 0; g.matrix && i < D; ++i)
                for (int64_t j = 0; j <= i; ++j) {
                    const double value =
                        own.data[i * D + j] * unit.data[lanes.cell(k, i)] * unit.data[lanes.cell(k, j)];
                    precision.data[lanes.cell(k, i, j)] = precision.data[lanes.cell(k, j, i)] = value;
                }
        }
    }

    const vdouble* of(const Buffer<double>& values, int64_t v) const {
        return (const vdouble*)values.data + v * g.D;
    }

    const vdouble* rows(int64_t v) const { return (const vdouble*)precision.data + v * g.D * g.D; }

    // The lower triangle of P = W^T W with W = L^-1; and whether it has enough digits.
    void invert(const double* L, double* W, double* own) {
        const int64_t D = g.D;
        g.invert(L, W);
        for (int64_t i = 0; i < D * D; ++i) own[i] = 0.0;
        for (int64_t r = 0; r < D; ++r)
            for (int64_t i = 0; i <= r; ++i)
                for (int64_t j = 0; j <= i; ++j) own[i * D + j] += W[r * D + i] * W[r * D + j];
        for (int64_t i = 0; i < D; ++i) {
            double variance = 0.0;
            for (int64_t j = 0; j <= i; ++j) variance += L[i * D + j] * L[i * D + j];
            good = good && variance * own[i * D + i] < MOST_INFLATION;
        }
    }
};

// One pattern: which features are missing, the Cholesky factor F of P_mm in units, and log-densities of
// a point at the conditional mean.
struct Pattern {
    const Precisions& all;
    int64_t number, m;
    Buffer<int64_t> missing;
    Buffer<double> factor;            // (shapes, D, D) of lanes: F, with 1 / F_aa on the diagonal
    Buffer<double> constant;          // (vectors,) of lanes
    Buffer<double> half_log_det;      // of P_mm
    Buffer<double> difference, solution, inverse;

    explicit Pattern(const Precisions& all)
        : all(all), number(-1), m(0), missing(all.g.D), factor(all.g.matrix ? all.shapes * square() : 1),
          constant(all.vectors * DOUBLES), half_log_det(all.vectors * DOUBLES),
          difference(all.g.D * DOUBLES), solution(all.g.D * DOUBLES), inverse(all.g.matrix ? square() : 1) {}

    int64_t square() const { return all.g.D * all.g.D * DOUBLES; }

    bool ok() const {
        return missing.ok() && factor.ok() && constant.ok() && half_log_det.ok() && difference.ok() &&
               solution.ok() && inverse.ok();
    }

    vdouble* factor_of(int64_t v) const {
        return (vdouble*)factor.data + (all.g.shared ? 0 : v) * all.g.D * all.g.D;
    }

    void select(const Groups& groups, int64_t p) {
        if (p == number) return;
        const int64_t D = all.g.D;
        const uint8_t* absent = groups.absent + p * D;
        number = p, m = 0;
        for (int64_t d = 0; d < D; ++d)
            if (absent[d]) missing.data[m++] = d;
        for (int64_t v = 0; v < all.shapes; ++v) {
            vdouble half = {};
            if (all.g.matrix) half = factorize(v);
            for (int64_t a = 0; a < m; ++a) half -= all.of(all.log_unit, v)[missing.data[a]];
            ((vdouble*)half_log_det.data)[v] = half;
        }
        for (int64_t v = all.shapes; v < all.vectors; ++v)
            ((vdouble*)half_log_det.data)[v] = ((vdouble*)half_log_det.data)[0];
        for (int64_t k = 0; k < all.g.K; ++k)
            constant.data[k] = all.g.constant.data[k] + 0.5 * LOG_2PI * (double)m - half_log_det.data[k];
    }

    // Returns half of log det P_mm, in units.
    vdouble factorize(int64_t v) {
        constexpr int64_t SOME = 16;  // reciprocal pivots whose product is finite: each is at most 2^52
        const vdouble* P = all.rows(v);
        vdouble *F = factor_of(v), product = broadcast(1.0), half = {};
        for (int64_t a = 0; a < m; ++a)
            for (int64_t b = 0; b <= a; ++b) F[a * m + b] = P[missing.data[a] * all.g.D + missing.data[b]];
        for (int64_t c = 0; c < m; ++c) {
            const vdouble least = broadcast(0x1p-52);
            const vdouble pivot = F[c * m + c] > least ? F[c * m + c] : least;
            const vdouble reciprocal = 1.0 / square_root(pivot);
            product *= reciprocal;
            if (c % SOME == SOME - 1) half -= logarithm(product), product = broadcast(1.0);
            F[c * m + c] = reciprocal;
            for (int64_t i = c + 1; i < m; ++i) F[i * m + c] *= reciprocal;
            for (int64_t i = c + 1; i < m; ++i)
                for (int64_t j = c + 1; j <= i; ++j) F[i * m + j] -= F[i * m + c] * F[j * m + c];
        }
        return half - logarithm(product);
    }

    // Solve F F^T y = y.
    void solve(const vdouble* F, vdouble* y) const {
        for (int64_t a = 0; a < m; ++a) {
            vdouble sum = y[a];
            for (int64_t b = 0; b < a; ++b) sum -= F[a * m + b] * y[b];
            y[a] = sum * F[a * m + a];
        }
        for (int64_t a = m - 1; a >= 0; --a) {
            const vdouble value = y[a] = y[a] * F[a * m + a];
            for (int64_t b = 0; b < a; ++b) y[b] -= F[a * m + b] * value;
        }
    }

    // Write the conditional means minus mu of one point to to[(k * D + d) * DOUBLES] for missing d.
    template <typename X>
    void impute(const X* x, double* to) const {
        constexpr int64_t SOME = 4;
        const int64_t D = all.g.D, K = all.g.K;
        vdouble *offset = (vdouble*)difference.data, *y = (vdouble*)solution.data;
        for (int64_t v = 0; v < all.vectors; ++v) {
            const int64_t shape = all.g.shared ? 0 : v;
            const vdouble *mean = all.of(all.means, v), *unit = all.of(all.unit, shape), *P = all.rows(shape);
            const vdouble* per_unit = all.of(all.per_unit, shape);
            for (int64_t d = 0; d < D; ++d)
                offset[d] = x[d] == x[d] ? ((double)x[d] - mean[d]) * per_unit[d] : (vdouble){};
            for (int64_t a = 0; a < m; a += SOME) {
                const vdouble* row[SOME];
                vdouble sum[SOME] = {};
                for (int64_t r = 0; r < SOME; ++r) row[r] = P + missing.data[a + r < m ? a + r : a] * D;
                for (int64_t d = 0; d < D; ++d)
                    for (int64_t r = 0; r < SOME; ++r) sum[r] = fma(row[r][d], offset[d], sum[r]);
                for (int64_t r = 0; r < SOME && a + r < m; ++r) y[a + r] = -sum[r];
            }
            solve(factor_of(v), y);
            const int64_t here = K - v * DOUBLES < DOUBLES ? K - v * DOUBLES : DOUBLES;
            for (int64_t a = 0; a < m; ++a) {
                const vdouble value = y[a] * unit[missing.data[a]];
                double* cell = to + (v * DOUBLES * D + missing.data[a]) * DOUBLES;
                for (int64_t l = 0; l < here; ++l, cell += D * DOUBLES) *cell = value[l];
            }
        }
    }

    // Add mass (vectors,) times P_mm^-1, less the floor, to second (shapes, D, D), the lower triangle.
    void add_covariances(const vdouble* mass, const double* floor, vdouble* second) const {
        const int64_t D = all.g.D;
        vdouble* W = (vdouble*)inverse.data;  // column a of F^-1 from row a on, as row a
        for (int64_t v = 0; v < all.shapes; ++v) {
            const vdouble *F = factor_of(v), *unit = all.of(all.unit, v);
            for (int64_t a = 0; a < m; ++a)
                for (int64_t i = a; i < m; ++i) {
                    vdouble sum = i == a ? broadcast(1.0) : (vdouble){};
                    for (int64_t j = a; j < i; ++j) sum -= F[i * m + j] * W[a * m + j];
                    W[a * m + i] = sum * F[i * m + i];
                }
            for (int64_t a = 0; a < m; ++a)
                for (int64_t b = 0; b <= a; ++b) {
                    const int64_t i = missing.data[a], j = missing.data[b];
                    vdouble sum = {};
                    for (int64_t r = a; r < m; ++r) sum = fma(W[a * m + r], W[b * m + r], sum);
                    sum *= unit[i] * unit[j];
                    if (a == b) sum -= floor[i];
                    second[(v * D + i) * D + j] += mass[v] * sum;
                }
        }
    }

    // The same for variances: second (vectors, D).
    void add_variances(const vdouble* mass, const double* floor, vdouble* second) const {
        for (int64_t v = 0; v < all.vectors; ++v)
            for (int64_t a = 0; a < m; ++a) {
                const int64_t d = missing.data[a];
                const vdouble unit = all.of(all.unit, v)[d], raw = unit * unit - floor[d];
                second[v * all.g.D + d] += mass[v] * (raw > 0.0 ? raw : (vdouble){});
            }
    }
};

// A block of points with gaps: their joint log-densities, and what is imputed.
struct GapTile : Tile {
    const Gaussians& g;
    int64_t lanes, vectors;   // so many points fit; vectors of the points in the block
    Buffer<double> imputed;   // (vectors, K, D) of lanes, minus the means; only missing values are written
    Buffer<double> constants; // (vectors, K) of lanes: see `Pattern::constant`
    Buffer<double> entropies; // (vectors, K) of lanes: of the missing values

    explicit GapTile(const Gaussians& g)
        : Tile(g.K, g.D), g(g), lanes(fitting(g)), vectors(0), imputed(g.matrix ? g.K * g.D * lanes : 1),
          constants(g.K * PACK), entropies(g.K * PACK) {}

    double* cell(const Buffer<double>& of, int64_t q) const {
        return of.data + q / DOUBLES * g.K * DOUBLES + q % DOUBLES;
    }

    vdouble of(const Buffer<double>& values, int64_t k, int64_t v) const {
        return ((vdouble*)values.data)[v * g.K + k];
    }

    bool ok() const { return Tile::ok() && imputed.ok() && constants.ok() && entropies.ok(); }

    static int64_t fitting(const Gaussians& g) {
        constexpr int64_t STEP = POINT_VECTORS * DOUBLES;
        const int64_t fit = IMPUTED_CELLS / (g.K * g.D) / STEP * STEP;
        return !g.matrix || fit > PACK ? PACK : fit < STEP ? STEP : fit;
    }

    // Points order[start] to order[start + n - 1]; `p` is the pattern of the first one.
    template <typename X>
    void load_gaps(const X* x, const double* weight, const Groups& groups, int64_t start, int64_t n, int64_t p,
                   Pattern& pattern, bool scored) {
        const int64_t D = g.D, all = rounded_up(n, DOUBLES * POINT_VECTORS);
        vectors = all / DOUBLES;
        const int64_t* const order = groups.order + start;
        for (int64_t block = 0; block < all; block += DOUBLES) {
            const X* from[DOUBLES];
            for (int64_t l = 0; l < DOUBLES; ++l) {
                from[l] = x + order[block + l < n ? block + l : 0] * D;
                w.data[block + l] = block + l < n && weight ? weight[order[block + l]] : 0.0;
            }
            for (int64_t d = 0; d < D; ++d)
                for (int64_t l = 0; l < DOUBLES; ++l)
                    points.data[d * PACK + block + l] = block + l < n ? (double)from[l][d] : 0.0;
        }
        for (int64_t q = 0; q < n; ++q) {
            while (groups.starts[p + 1] <= start + q) ++p;
            pattern.select(groups, p);
            if (g.matrix) pattern.impute(x + order[q] * D, imputed.data + imputed_place(q));
            const double half = 0.5 * (LOG_2PI + 1.0) * (double)pattern.m;
            double *constant = cell(constants, q), *entropy = cell(entropies, q);
            for (int64_t k = 0; k < g.K; ++k) constant[k * DOUBLES] = pattern.constant.data[k];
            for (int64_t k = 0; scored && k < g.K; ++k) entropy[k * DOUBLES] = half - pattern.half_log_det.data[k];
        }
        for (int64_t q = n; q < all; ++q)
            for (int64_t k = 0; k < g.K; ++k) cell(constants, q)[k * DOUBLES] = cell(entropies, q)[k * DOUBLES] = 0.0;
    }

    int64_t imputed_place(int64_t q) const { return q / DOUBLES * g.K * g.D * DOUBLES + q % DOUBLES; }

    // x - mu_k of feature d, with conditional means in place of missing values.
    vdouble deviation(int64_t k, int64_t d, int64_t v) const {
        const vdouble x = row(points, d)[v], found = x - g.means[k * g.D + d];
        const vdouble other = g.matrix ? ((vdouble*)imputed.data)[(v * g.K + k) * g.D + d] : (vdouble){};
        return x == x ? found : other;
    }

    // |(x_o - mu_o) / deviation|^2.
    void whiten_present(int64_t k, int64_t start, vdouble* out) const {
        constexpr int V = POINT_VECTORS;
        const double *mean = g.means + k * g.D, *w = g.whitener_of(k);
        const vdouble* x = row(points, 0) + start;
        vdouble sum[V] = {};
        for (int64_t d = 0; d < g.D; ++d, x += VECTORS) {
            const vdouble centre = broadcast(mean[d]), weight = broadcast(w[d]);
            for (int v = 0; v < V; ++v) {
                const vdouble whitened = (x[v] - centre) * weight;
                sum[v] = x[v] == x[v] ? fma(whitened, whitened, sum[v]) : sum[v];
            }
        }
        for (int v = 0; v < V; ++v) out[v] = sum[v];
    }

    void log_joint_of_gaps() {
        constexpr int V = POINT_VECTORS;
        vdouble* const offset = (vdouble*)difference.data;
        for (int64_t start = 0; start < vectors; start += V)
            for (int64_t k = 0; k < g.K; ++k) {
                vdouble square[V] = {};
                if (g.matrix) {
                    for (int64_t d = 0; d < g.D; ++d)
                        for (int v = 0; v < V; ++v) offset[d * V + v] = deviation(k, d, start + v);
                    whiten_rows(offset, g.whitener_of(k), g.D, square);
                } else whiten_present(k, start, square);
                for (int v = 0; v < V; ++v) {
                    const vdouble distance = square[v] < FARTHEST ? square[v] : broadcast(FARTHEST);
                    row(joint, k)[start + v] = of(constants, k, start + v) - 0.5 * distance;
                }
            }
    }
};

// The arguments of a step with the expected moments of whole points.
struct ExpectedStep {
    const double* w;
    Groups groups;
    const double *floor, *background;  // (D,), and (P,) or null
    int64_t threads;
    double *log_density, *entropy;     // OUT: of each point, without the background; or null
};

// The patterns, and first those of enough points for a marginal mixture. Each kind keeps its order.
struct Divided {
    Buffer<int64_t> order, starts;
    Buffer<uint8_t> absent;
    Buffer<double> background;
    int64_t common;  // number of the former
    Groups groups;

    Divided(const ExpectedStep& step, int64_t D)
        : order(step.groups.starts[step.groups.P]), starts(step.groups.P + 1), absent(step.groups.P * D),
          background(step.groups.P), common(0), groups{step.groups.P, order.data, starts.data, absent.data} {
        if (!ok()) return;
        const Groups& from = step.groups;
        int64_t p = 0;
        starts.data[0] = 0;
        for (int rare = 0; rare < 2; ++rare) {
            for (int64_t q = 0; q < from.P; ++q) {
                const int64_t n = from.starts[q + 1] - from.starts[q];
                if ((n < FEWEST_ALIKE + D) != (rare == 1)) continue;
                const int64_t start = starts.data[p];
                for (int64_t i = 0; i < n; ++i) order.data[start + i] = from.order[from.starts[q] + i];
                for (int64_t d = 0; d < D; ++d) absent.data[p * D + d] = from.absent[q * D + d];
                background.data[p] = step.background ? step.background[q] : -INFINITY;
                starts.data[++p] = start + n;
            }
            if (!rare) common = p;
        }
    }

    bool ok() const { return order.ok() && starts.ok() && absent.ok() && background.ok(); }

    int64_t points() const { return groups.starts[groups.P]; }
    int64_t common_points() const { return groups.starts[common]; }
};

// The expected moments of whole points, of one chunk after the other. A chunk has its points in the order
// of `Divided`.
struct Expected {
    const Gaussians& g;
    const ExpectedStep& step;
    const Divided& divided;
    const LaneCells lanes;
    const int64_t vectors, shapes, width;
    Marginal marginal;
    Pattern pattern;
    GapTile tile;
    Active active;
    Buffer<double> mass, covariances;             // of the pattern; for all patterns: lanes
    Buffer<double> own_weight, own_first, own_second, own_background;
    double totals[2];
    int64_t pending;                              // the pattern that `mass` belongs to, or -1
    const WholeMoments to;

    Expected(const Gaussians& g, const Parameters& parameters, const Precisions& precisions, const ExpectedStep& step,
             const Divided& divided)
        : g(g), step(step), divided(divided), lanes{g.D},
          vectors((g.K + DOUBLES - 1) / DOUBLES), shapes(g.shared ? 1 : vectors), width(rounded_up(g.D, DOUBLES)),
          marginal(g, parameters, step.floor), pattern(precisions), tile(g), active(g), mass(vectors * DOUBLES),
          covariances(cells()), own_weight(g.K), own_first(g.K * width), own_second(own_cells()), own_background(PACK),
          pending(-1),
          to{own_weight.data, own_first.data, width, (vdouble*)covariances.data, totals, step.log_density, step.entropy} {
        if (ok()) clear(mass, vectors * DOUBLES);
    }

    int64_t cells() const { return (g.matrix ? shapes * g.D : vectors) * g.D * DOUBLES; }
    int64_t own_cells() const { return (g.shared ? 1 : g.K) * (g.matrix ? g.D : 1) * width; }

    static void clear(Buffer<double>& values, int64_t n) {
        for (int64_t i = 0; i < n; ++i) values.data[i] = 0.0;
    }

    bool ok() const {
        return marginal.ok() && pattern.ok() && tile.ok() && active.ok() && mass.ok() && covariances.ok() &&
               own_weight.ok() && own_first.ok() && own_second.ok() && own_background.ok();
    }

    // Add n points from `start`. Returns as `Marginal::add`.
    template <typename X>
    int add(const X* x, int64_t start, int64_t n, const MixtureSums& out) {
        const Groups& groups = divided.groups;
        const int64_t end = start + n;
        int64_t p = 0;
        active.clear();
        clear(covariances, cells());
        clear(own_weight, g.K);
        clear(own_first, g.K * width);
        clear(own_second, own_cells());
        totals[0] = totals[1] = 0.0;
        for (; p < divided.common && groups.starts[p] < end; ++p) {
            const int64_t from = groups.starts[p] > start ? groups.starts[p] : start;
            const int64_t until = groups.starts[p + 1] < end ? groups.starts[p + 1] : end;
            if (from >= until) continue;
            const int status = marginal.add(x, step.w, groups.order + from, until - from, groups.absent + p * g.D,
                                            divided.background.data[p], to);
            if (status) return status;
        }
        const int64_t common = divided.common_points();
        add_rare(x, start > common ? start : common, end);
        unpack(out);
        return 0;
    }

    template <typename X>
    void add_rare(const X* x, int64_t start, int64_t end) {
        const Groups& groups = divided.groups;
        for (int64_t p = divided.common; start < end; start += tile.lanes) {
            const int64_t n = end - start < tile.lanes ? end - start : tile.lanes;
            while (groups.starts[p + 1] <= start) ++p;
            tile.load_gaps(x, step.w, groups, start, n, p, pattern, step.log_density);
            for (int64_t q = 0, own = p; q < PACK; ++q) {
                while (q < n && groups.starts[own + 1] <= start + q) ++own;
                own_background.data[q] = q < n ? divided.background.data[own] : -INFINITY;
            }
            tile.log_joint_of_gaps();
            const int64_t pairs = weigh_gaps(start, n);
            const bool few = (active.worth() || !g.matrix) && pairs < g.K * tile.vectors * DOUBLES / 2;
            for (int64_t k = 0; k < g.K; ++k) {
                if (few) scatter_some(tile, k);
                else scatter_all(tile, k);
            }
            add_patterns(start, n, p);
        }
        if (pending >= 0) flush(pending);
    }

    // As `weigh` for complete points, with a background per point. Returns the number of pairs.
    int64_t weigh_gaps(int64_t start, int64_t n) {
        const Groups& groups = divided.groups;
        double *const log_density = step.log_density, *const each_entropy = step.entropy;
        int64_t pairs = 0;
        vdouble score[DOUBLES] = {};
        for (int64_t v = 0; v < tile.vectors; ++v) {
            vdouble top = tile.row(tile.joint, 0)[v], sum = {}, inner = {}, entropy = {};
            for (int64_t k = 1; k < g.K; ++k) {
                const vdouble here = tile.row(tile.joint, k)[v];
                top = here > top ? here : top;
            }
            const vdouble noise = ((vdouble*)own_background.data)[v], most = noise > top ? noise : top;
            for (int64_t k = 0; k < g.K; ++k) {
                vdouble& here = tile.row(tile.joint, k)[v];
                if (log_density) {
                    const vdouble share = exponential(here - top);
                    inner += share;
                    entropy = fma(share, tile.of(tile.entropies, k, v), entropy);
                }
                const vlong matters = most - here < NEGLIGIBLE;
                const unsigned lanes = mask(matters);
                here = lanes ? (vdouble)((vlong)exponential(here - most) & matters) : (vdouble){};
                sum += here;
                pairs += __builtin_popcount(lanes);
            }
            if (step.background) sum += exponential(noise - most);
            const vdouble w = ((vdouble*)tile.w.data)[v], factor = w / sum;
            for (int64_t k = 0; k < g.K; ++k) tile.row(tile.joint, k)[v] *= factor;
            score[0] += w * (most + logarithm(sum));
            if (!log_density) continue;
            const vdouble density = top + logarithm(inner);
            entropy /= inner;
            for (int64_t l = 0; l < DOUBLES && v * DOUBLES + l < n; ++l) {
                log_density[groups.order[start + v * DOUBLES + l]] = density[l];
                each_entropy[groups.order[start + v * DOUBLES + l]] = entropy[l];
            }
        }
        to.totals[0] += sums(score)[0];
        return pairs;
    }

    // Add a component's moments from all points of the block.
    void scatter_all(GapTile& tile, int64_t k) {
        const vdouble* share = tile.row(tile.joint, k);
        double *one = own_first.data + k * width, *two = second_of(k);
        for (int64_t d = 0; d < g.D; ++d) {
            vdouble *offset = tile.row(tile.difference, d), *scaled = tile.row(tile.scaled, d);
            vdouble part[DOUBLES] = {};
            for (int64_t v = 0; v < tile.vectors; ++v) {
                offset[v] = tile.deviation(k, d, v);
                scaled[v] = share[v] * offset[v];
                part[0] += scaled[v];
                if (!g.matrix) part[1] = fma(scaled[v], offset[v], part[1]);
            }
            const vdouble sum = sums(part);
            one[d] += sum[0];
            if (!g.matrix) two[d] += sum[1];
        }
        for (int64_t i = 0; g.matrix && i < g.D; ++i)
            for (int64_t j = 0; j <= i; j += DOUBLES) {
                const vdouble* a = tile.row(tile.scaled, i);
                vdouble part[DOUBLES] = {};
                for (int64_t c = 0; c < DOUBLES && j + c <= i; ++c) {
                    const vdouble* b = tile.row(tile.difference, j + c);
                    for (int64_t v = 0; v < tile.vectors; ++v) part[c] = fma(a[v], b[v], part[c]);
                }
                *(vdouble*)(two + i * width + j) += sums(part);
            }
    }

    double* second_of(int64_t k) const {
        return own_second.data + (g.shared ? 0 : k) * (g.matrix ? g.D : 1) * width;
    }

    // The same, from the points with a responsibility only.
    void scatter_some(const GapTile& tile, int64_t k) {
        const double* share = tile.joint.data + k * PACK;
        double* one = own_first.data + k * width;
        double* two = g.matrix ? active.second.data + (g.shared ? 0 : k * active.triangle) : second_of(k);
        int64_t n = 0;
        for (int64_t v = 0; v < tile.vectors; ++v)
            for (unsigned lanes = mask(tile.row(tile.joint, k)[v] > 0.0); lanes; lanes &= lanes - 1) {
                const int64_t q = v * DOUBLES + __builtin_ctz(lanes);
                double *row = active.difference.data + n * width, *scaled = active.scaled.data + n * width;
                for (int64_t d = 0; d < g.D; ++d) {
                    const double x = tile.points.data[d * PACK + q];
                    const double* other = tile.imputed.data + tile.imputed_place(q) + (k * g.D + d) * DOUBLES;
                    row[d] = x == x ? x - g.means[k * g.D + d] : g.matrix ? *other : 0.0;
                }
                for (int64_t b = 0; b < width / DOUBLES; ++b) {
                    ((vdouble*)scaled)[b] = ((vdouble*)row)[b] * share[q];
                    ((vdouble*)one)[b] += ((vdouble*)scaled)[b];
                    if (g.matrix) continue;
                    ((vdouble*)two)[b] = fma(((vdouble*)scaled)[b], ((vdouble*)row)[b], ((vdouble*)two)[b]);
                }
                if (!g.matrix) continue;
                if (++n == TOGETHER) active.add_matrix(n, (vdouble*)two), n = 0;
            }
        if (n) active.add_matrix(n, (vdouble*)two);
    }

    // Sum the shares of the points of each pattern; at its end, add its covariances.
    void add_patterns(int64_t start, int64_t n, int64_t p) {
        const Groups& groups = divided.groups;
        for (int64_t q = 0; q < n; ++p) {
            const int64_t left = groups.starts[p + 1] - start, end = left < n ? left : n;
            for (int64_t k = 0; k < g.K; ++k) mass.data[k] += sum_lanes(tile.row(tile.joint, k), q, end);
            q = end;
            if (left <= n) flush(p);
            else pending = p;
        }
    }

    // The sum of lanes `from` to `end` - 1.
    static double sum_lanes(const vdouble* values, int64_t from, int64_t end) {
        if (end - from == 1) return ((const double*)values)[from];
        vlong number;
        for (int l = 0; l < DOUBLES; ++l) number[l] = l;
        vdouble sum[DOUBLES] = {};
        for (int64_t v = from / DOUBLES; v * DOUBLES < end; ++v) {
            const vlong lane = number + v * DOUBLES;
            sum[0] += (vdouble)((vlong)values[v] & (lane >= from) & (lane < end));
        }
        return sums(sum)[0];
    }

    void flush(int64_t p) {
        pattern.select(divided.groups, p);
        double total = 0.0;
        const double half = 0.5 * (LOG_2PI + 1.0) * (double)pattern.m;
        for (int64_t k = 0; k < g.K; ++k) {
            total += mass.data[k];
            own_weight.data[k] += mass.data[k];
            totals[1] += mass.data[k] * (half - pattern.half_log_det.data[k]);
        }
        const vdouble* own = (const vdouble*)mass.data;
        const vdouble shared = broadcast(total);
        if (g.matrix) pattern.add_covariances(g.shared ? &shared : own, step.floor, to.second);
        else pattern.add_variances(own, step.floor, to.second);
        clear(mass, vectors * DOUBLES);
        pending = -1;
    }

    // Write the sums in the shapes for Python.
    void unpack(const MixtureSums& out) const {
        const int64_t D = g.D;
        out.log_likelihood[0] = totals[0], out.log_likelihood[1] = totals[1];
        for (int64_t k = 0; k < g.K; ++k) {
            out.weight[k] = own_weight.data[k];
            for (int64_t d = 0; d < D; ++d) out.first[k * D + d] = own_first.data[k * width + d];
        }
        for (int64_t k = 0; k < (g.shared ? 1 : g.K); ++k) {
            const double* two = second_of(k);
            if (!g.matrix) {
                for (int64_t d = 0; d < D; ++d) out.second[k * D + d] = two[d] + covariances.data[lanes.cell(k, d)];
                continue;
            }
            for (int64_t i = 0; i < D; ++i)
                for (int64_t j = 0; j <= i; ++j)
                    out.second[(k * D + i) * D + j] = out.second[(k * D + j) * D + i] =
                        two[i * width + j] + active.cell(k, i, j) + covariances.data[lanes.cell(k, i, j)];
        }
    }
};

// The sums of a batch are those of its chunks, in their order.
template <typename X>
struct ExpectedByChunks {
    static constexpr bool ORDERED = true;
    const X* x;
    const Gaussians& g;
    const Parameters& parameters;
    const Precisions& precisions;
    const ExpectedStep& step;
    const Divided& divided;
    const MixtureSums& total;
    const int64_t cells;  // of `second`
    int status;
    Places sums;

    ExpectedByChunks(const X* x, const Gaussians& g, const Parameters& parameters, const Precisions& precisions,
                     const ExpectedStep& step, const Divided& divided, const MixtureSums& total)
        : x(x), g(g), parameters(parameters), precisions(precisions), step(step), divided(divided), total(total),
          cells((g.shared ? 1 : g.K) * g.D * (g.matrix ? g.D : 1)), status(1), sums(g.K * (g.D + 1) + cells + 2) {}

    struct Scratch : Expected {
        explicit Scratch(const ExpectedByChunks& work)
            : Expected(work.g, work.parameters, work.precisions, work.step, work.divided) {}
    };

    // Memory per place: about as much again for what each thread adds to.
    int64_t bytes() const { return 5 * sums.size * (int64_t)sizeof(double); }

    bool reserve(int64_t places) { return sums.reserve(places); }

    MixtureSums at(int64_t place) const {
        double *weight = sums.at(place), *first = weight + g.K, *second = first + g.K * g.D;
        return {weight, first, second, second + cells, nullptr};
    }

    bool range(Expected& expected, int64_t start, int64_t n, int64_t place) {
        const int found = expected.add(x, start, n, at(place));
        if (found) status = found;
        return !found;
    }

    void retire(int64_t, int64_t place) {
        const MixtureSums from = at(place);
        add(total.weight, from.weight, g.K);
        add(total.first, from.first, g.K * g.D);
        add(total.second, from.second, cells);
        add(total.log_likelihood, from.log_likelihood, 2);
    }
};

// `total` must be 0; its `log_likelihood` has the two numbers of `WholeMoments::totals`. Returns 0, 1 if
// there wasn't enough memory, or 2 if the precisions have too few digits.
template <typename X>
int expected_step(const X* x, const Gaussians& g, const Parameters& parameters, const ExpectedStep& step,
                  const MixtureSums& total) {
    const Divided divided(step, g.D);
    const int64_t N = step.groups.starts[step.groups.P];
    if (!divided.ok()) return 1;
    const Precisions precisions(g, parameters.root, divided.common_points() < N);
    if (!precisions.ready) return 1;
    if (!precisions.good) return 2;
    ExpectedByChunks<X> work(x, g, parameters, precisions, step, divided, total);
    if (N <= CHUNK) {
        typename ExpectedByChunks<X>::Scratch expected(work);
        return expected.ok() ? expected.add(x, 0, N, total) : 1;
    }
    return share(work, N, CHUNK, worth(multiplications(N, g), step.threads), work.bytes()) ? 0 : work.status;
}

// Writes row n of `out` (N, K) for each point of the groups.
template <typename X>
bool marginal_log_gaussians(const X* x, const Groups& groups, const Precisions& all, double* out) {
    Pattern pattern(all);
    GapTile tile(all.g);
    if (!pattern.ok() || !tile.ok()) return false;
    const int64_t N = groups.starts[groups.P], K = all.g.K;
    for (int64_t start = 0, p = 0; start < N; start += tile.lanes) {
        const int64_t n = N - start < tile.lanes ? N - start : tile.lanes;
        while (groups.starts[p + 1] <= start) ++p;
        tile.load_gaps(x, (const double*)nullptr, groups, start, n, p, pattern, false);
        tile.log_joint_of_gaps();
        for (int64_t q = 0; q < n; ++q)
            for (int64_t k = 0; k < K; ++k)
                out[groups.order[start + q] * K + k] = tile.joint.data[k * PACK + q];
    }
    return true;
}

// log det of the covariances of the present features, (P, K), or (P, 1) if shared.
inline bool marginal_log_dets(const Groups& groups, const Precisions& all, const double* root, double* out) {
    const Gaussians& g = all.g;
    const int64_t K = g.shared ? 1 : g.K, D = g.D;
    Pattern pattern(all);
    Buffer<double> whole(K);
    if (!pattern.ok() || !whole.ok()) return false;
    for (int64_t k = 0; k < K; ++k) {
        whole.data[k] = 0.0;
        for (int64_t d = 0; d < D; ++d) whole.data[k] += log(root[g.matrix ? (k * D + d) * D + d : k * D + d]);
    }
    for (int64_t p = 0; p < groups.P; ++p) {
        pattern.select(groups, p);
        for (int64_t k = 0; k < K; ++k) *out++ = 2.0 * (whole.data[k] + pattern.half_log_det.data[k]);
    }
    return true;
}

}  // namespace
