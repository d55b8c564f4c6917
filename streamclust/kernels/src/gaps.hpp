// Gaussian mixtures and points with gaps: the expected moments of whole points, and marginal
// log-densities. The formulas are in models/conditionals.py.
//
// Points of common patterns are complete points of marginal mixtures (marginals.hpp). All others share
// tiles of points, whatever their patterns (precisions.hpp; diagonal mixtures: gap_screen.hpp).
#pragma once

#include "gap_screen.hpp"
#include "precisions.hpp"

namespace {

constexpr int64_t IMPUTED_CELLS = 1 << 17;  // of imputed values: 1 MiB
constexpr int64_t FEWEST_ALIKE = 32;        // points, besides 2 D, of a pattern with a marginal mixture of its own

// A block of points with gaps: their joint log-densities, and what is imputed.
struct GapTile : Tile {
    const Gaussians& g;
    PatternBlock patterns;
    const int64_t lanes;       // so many points fit
    int64_t n, vectors;        // points in the block; the same in vectors
    bool imputes;              // whether densities are those of imputed points; else of means less reductions
    Buffer<double> imputed;    // (vectors, K, D) of lanes, minus the means; only missing values are written
    Buffer<double> reductions; // (vectors, K) of lanes: see `PatternBlock::write_reductions`
    Buffer<double> constants;  // (vectors, K) of lanes: of log-densities
    Buffer<double> entropies;  // (vectors, K) of lanes: of the missing values
    Buffer<int64_t> pattern;   // (PACK,): of each point, by its place in `patterns`

    explicit GapTile(const Precisions& all)
        : Tile(all.g.K, all.g.D), g(all.g), patterns(all), lanes(fitting(g)), n(0), vectors(0),
          imputes(g.matrix && !all.accurate()), imputed(g.matrix ? g.K * g.D * lanes : 1),
          reductions(g.matrix ? g.K * PACK : 1), constants(g.K * PACK), entropies(g.K * PACK), pattern(PACK) {}

    double* cell(const Buffer<double>& of, int64_t q) const {
        return of.data + q / DOUBLES * g.K * DOUBLES + q % DOUBLES;
    }

    vdouble of(const Buffer<double>& values, int64_t k, int64_t v) const {
        return ((vdouble*)values.data)[v * g.K + k];
    }

    bool ok() const {
        return Tile::ok() && patterns.ok() && imputed.ok() && reductions.ok() && constants.ok() && entropies.ok() &&
               pattern.ok();
    }

    static int64_t fitting(const Gaussians& g) {
        constexpr int64_t STEP = POINT_VECTORS * DOUBLES;
        const int64_t fit = IMPUTED_CELLS / (g.K * g.D) / STEP * STEP;
        return !g.matrix || fit > PACK ? PACK : fit < STEP ? STEP : fit;
    }

    // Load up to `most` points from order[start]; `p` is the pattern of the first one. Returns the number
    // of points that fit.
    template <typename X>
    int64_t load_gaps(const X* x, const double* weight, const Groups& groups, int64_t start, int64_t most, int64_t p,
                      bool scored) {
        n = patterns.take(groups, start, most < lanes ? most : lanes, p);
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
        for (int64_t q = 0, i = 0; q < n; ++q) {
            while (groups.starts[p + i + 1] <= start + q) ++i;
            pattern.data[q] = i;
            const double half = 0.5 * (LOG_2PI + 1.0) * (double)patterns.sizes.data[i];
            const double *from = patterns.constants_of(i), *log_det = patterns.half_log_dets_of(i);
            double *constant = cell(constants, q), *entropy = cell(entropies, q);
            for (int64_t k = 0; k < g.K; ++k) constant[k * DOUBLES] = from[k];
            for (int64_t k = 0; scored && k < g.K; ++k) entropy[k * DOUBLES] = half - log_det[k];
        }
        for (int64_t q = n; q < all; ++q)
            for (int64_t k = 0; k < g.K; ++k) {
                cell(constants, q)[k * DOUBLES] = cell(entropies, q)[k * DOUBLES] = 0.0;
                if (g.matrix) cell(reductions, q)[k * DOUBLES] = 0.0;
            }
        for (int64_t v = 0; g.matrix && v < patterns.all.vectors; ++v)
            for (int64_t q = 0; q < n; ++q) {
                if (imputes) impute(x, groups, start, q, v);
                else patterns.write_reductions(x + order[q] * D, pattern.data[q], v, cell(reductions, q) + v * DOUBLES * DOUBLES);
            }
        return n;
    }

    // Impute the missing values of point q, for DOUBLES components.
    template <typename X>
    void impute(const X* x, const Groups& groups, int64_t start, int64_t q, int64_t v) const {
        patterns.impute(x + groups.order[start + q] * g.D, pattern.data[q], v, imputed.data + imputed_place(q));
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

    // x - mu_k of each feature, with 0 for missing values.
    void subtract(int64_t k, int64_t start, vdouble* out) const {
        constexpr int V = POINT_VECTORS;
        for (int64_t d = 0; d < g.D; ++d)
            for (int v = 0; v < V; ++v) {
                const vdouble x = row(points, d)[start + v], found = x - g.means[k * g.D + d];
                out[d * V + v] = (vdouble)((vlong)found & (x == x));
            }
    }

    void log_joint_of_gaps() {
        constexpr int V = POINT_VECTORS;
        vdouble* const offset = (vdouble*)difference.data;
        for (int64_t start = 0; start < vectors; start += V)
            for (int64_t k = 0; k < g.K; ++k) {
                vdouble square[V] = {};
                if (!g.matrix) whiten_present(k, start, square);
                else if (!imputes) subtract(k, start, offset);
                else
                    for (int64_t d = 0; d < g.D; ++d)
                        for (int v = 0; v < V; ++v) offset[d * V + v] = deviation(k, d, start + v);
                if (g.matrix) whiten_rows(offset, g.whitener_of(k), g.D, square);
                for (int v = 0; v < V; ++v) {
                    vdouble distance = square[v];
                    if (g.matrix && !imputes) distance -= of(reductions, k, start + v);
                    if (g.matrix && !imputes) distance = distance < 0.0 ? (vdouble){} : distance;
                    distance = distance < FARTHEST ? distance : broadcast(FARTHEST);
                    row(joint, k)[start + v] = of(constants, k, start + v) - 0.5 * distance;
                }
            }
    }

    // Which of DOUBLES components have a responsibility for the points: bit q % DOUBLES of to[q / DOUBLES].
    void find_owned(int64_t v, unsigned* to) const {
        for (int64_t block = 0; block < vectors; ++block) {
            vlong any = {};
            for (int64_t k = v * DOUBLES; k < g.K && k < (v + 1) * DOUBLES; ++k) any |= row(joint, k)[block] > 0.0;
            to[block] = mask(any);
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
                if ((n < FEWEST_ALIKE + 2 * D) != (rare == 1)) continue;
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
    GapTile tile;
    GapScreen screen;
    Active active;
    Buffer<double> covariances;                   // of all patterns: lanes
    Buffer<double> own_weight, own_first, own_second, own_background;
    double totals[2];
    const WholeMoments to;

    Expected(const Gaussians& g, const Parameters& parameters, const Precisions& precisions, const ExpectedStep& step,
             const Divided& divided)
        : g(g), step(step), divided(divided), lanes{g.D},
          vectors((g.K + DOUBLES - 1) / DOUBLES), shapes(g.shared ? 1 : vectors), width(rounded_up(g.D, DOUBLES)),
          marginal(g, parameters, step.floor), tile(precisions), screen(g, step.floor), active(g), covariances(cells()), own_weight(g.K), own_first(g.K * width), own_second(own_cells()), own_background(PACK),
          to{own_weight.data, own_first.data, width, (vdouble*)covariances.data, totals, step.log_density, step.entropy} {}

    int64_t cells() const { return (g.matrix ? shapes * g.D : vectors) * g.D * DOUBLES; }
    int64_t own_cells() const { return (g.shared ? 1 : g.K) * (g.matrix ? g.D : 1) * width; }

    static void clear(Buffer<double>& values, int64_t n) {
        for (int64_t i = 0; i < n; ++i) values.data[i] = 0.0;
    }

    bool ok() const {
        return marginal.ok() && tile.ok() && screen.ok() && active.ok() && covariances.ok() &&
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
        tile.imputes = g.matrix && !tile.patterns.all.accurate();
        add_rare(x, start > common ? start : common, end);
        unpack(out);
        return 0;
    }

    template <typename X>
    void add_rare(const X* x, int64_t start, int64_t end) {
        const Groups& groups = divided.groups;
        bool whole = !screen.usable;
        for (int64_t p = divided.common, n; start < end; start += n) {
            while (groups.starts[p + 1] <= start) ++p;
            n = end - start < PACK ? end - start : PACK;
            set_background(start, n, p);
            if (!whole && add_screened(x, start, n)) continue;
            n = tile.load_gaps(x, step.w, groups, start, n, p, step.log_density);
            tile.log_joint_of_gaps();
            const int64_t pairs = weigh_gaps(start, n);
            const bool few = (active.worth() || !g.matrix) && pairs < g.K * tile.vectors * DOUBLES / 2;
            whole = !screen.usable || pairs > screen.most_pairs;
            for (int64_t v = 0; v < vectors; ++v) add_patterns(x, start, v, few);
            if (g.shared) add_shared_covariances();
            tile.imputes = g.matrix && !(few && tile.patterns.all.accurate());
            for (int64_t k = 0; k < g.K; ++k) {
                if (few) scatter_some(tile, k);
                else scatter_all(tile, k);
            }
        }
    }

    template <typename X>
    bool add_screened(const X* x, int64_t start, int64_t n) {
        const double* const noise = step.background ? own_background.data : nullptr;
        return screen.step_with_gaps(x, step.w, divided.groups.order + start, n, noise, to, own_second.data);
    }

    // Of n points from `start`, the first of which has pattern p.
    void set_background(int64_t start, int64_t n, int64_t p) {
        for (int64_t q = 0; q < PACK; ++q) {
            while (q < n && divided.groups.starts[p + 1] <= start + q) ++p;
            own_background.data[q] = q < n ? divided.background.data[p] : -INFINITY;
        }
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

    // Add weights and conditional covariances of DOUBLES components. If it isn't done yet, impute: all
    // points, or those with a responsibility.
    template <typename X>
    void add_patterns(const X* x, int64_t start, int64_t v, bool few) {
        const PatternBlock& patterns = tile.patterns;
        const int64_t here = g.K - v * DOUBLES < DOUBLES ? g.K - v * DOUBLES : DOUBLES;
        vdouble* const out = to.second + v * g.D * (g.matrix ? g.D : 1);
        unsigned owned[VECTORS];
        tile.find_owned(v, owned);
        for (int64_t q = 0; q < tile.n;) {
            const int64_t i = tile.pattern.data[q];
            vdouble mass = {}, entropy = {};
            bool any = false;
            for (; q < tile.n && tile.pattern.data[q] == i; ++q) {
                const bool own = owned[q / DOUBLES] >> q % DOUBLES & 1;
                if (g.matrix && !tile.imputes && (own || !few)) tile.impute(x, divided.groups, start, q, v);
                if (!own) continue;
                any = true;
                for (int64_t l = 0; l < here; ++l) mass[l] += tile.joint.data[(v * DOUBLES + l) * PACK + q];
            }
            if (!any) continue;
            const double half = 0.5 * (LOG_2PI + 1.0) * (double)patterns.sizes.data[i];
            entropy = mass * (half - ((const vdouble*)patterns.half_log_dets_of(i))[v]);
            for (int64_t l = 0; l < here; ++l) {
                own_weight.data[v * DOUBLES + l] += mass[l];
                totals[1] += entropy[l];
            }
            if (!g.matrix) patterns.add_variances(i, v, mass, step.floor, out);
            else if (!g.shared) patterns.add_covariances(i, v, mass, step.floor, out);
        }
    }

    void add_shared_covariances() {
        for (int64_t q = 0; q < tile.n;) {
            const int64_t i = tile.pattern.data[q];
            double total = 0.0;
            for (; q < tile.n && tile.pattern.data[q] == i; ++q)
                for (int64_t k = 0; k < g.K; ++k) total += tile.joint.data[k * PACK + q];
            tile.patterns.add_covariances(i, 0, broadcast(total), step.floor, to.second);
        }
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
    if (!precisions.good()) return 2;
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
    GapTile tile(all);
    if (!tile.ok()) return false;
    const int64_t N = groups.starts[groups.P], K = all.g.K;
    for (int64_t start = 0, p = 0; start < N; start += tile.n) {
        while (groups.starts[p + 1] <= start) ++p;
        const int64_t n = tile.load_gaps(x, (const double*)nullptr, groups, start, N - start, p, false);
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
    PatternBlock patterns(all);
    Buffer<double> whole(K);
    Buffer<int64_t> starts(groups.P + 1);
    if (!patterns.ok() || !whole.ok() || !starts.ok()) return false;
    for (int64_t p = 0; p <= groups.P; ++p) starts.data[p] = p;
    const Groups each = {groups.P, nullptr, starts.data, groups.absent};
    for (int64_t k = 0; k < K; ++k) {
        whole.data[k] = 0.0;
        for (int64_t d = 0; d < D; ++d) whole.data[k] += log(root[g.matrix ? (k * D + d) * D + d : k * D + d]);
    }
    for (int64_t p = 0; p < groups.P; p += patterns.count) {
        patterns.take(each, p, each.P - p, p);
        for (int64_t i = 0; i < patterns.count; ++i)
            for (int64_t k = 0; k < K; ++k) *out++ = 2.0 * (whole.data[k] + patterns.half_log_dets_of(i)[k]);
    }
    return true;
}

}  // namespace
