// The e-step of a mixture (responsibilities and moments), and log-densities alone.
#pragma once

#include "share.hpp"
#include "sparse_moments.hpp"

namespace {

// Write log p(x_n) of n points, without the background, from joint log-densities.
void write_densities(const Tile& tile, int64_t K, int64_t n, double* density) {
    for (int64_t v = 0; v * DOUBLES < n; ++v) {
        vdouble most = tile.row(tile.joint, 0)[v], sum = {};
        for (int64_t k = 1; k < K; ++k) {
            const vdouble here = tile.row(tile.joint, k)[v];
            most = here > most ? here : most;
        }
        for (int64_t k = 0; k < K; ++k) sum += exponential(tile.row(tile.joint, k)[v] - most);
        write_first(most + logarithm(sum), n - v * DOUBLES, density + v * DOUBLES);
    }
}

// The entropy of the missing values in each component, (K,), if all points lack the same features; and,
// for each point, its average by the responsibilities.
struct Entropies {
    const double* of_component;
    double* of_point;
};

// The same, and the entropies.
void write_densities(const Tile& tile, int64_t K, int64_t n, double* density, const Entropies& entropies) {
    write_densities(tile, K, n, density);
    for (int64_t v = 0; v * DOUBLES < n; ++v) {
        const int64_t here = n - v * DOUBLES < DOUBLES ? n - v * DOUBLES : DOUBLES;
        vdouble whole = {}, sum = {};
        for (int64_t l = 0; l < here; ++l) whole[l] = density[v * DOUBLES + l];
        for (int64_t k = 0; k < K; ++k)
            sum = fma(exponential(tile.row(tile.joint, k)[v] - whole), broadcast(entropies.of_component[k]), sum);
        write_first(sum, here, entropies.of_point + v * DOUBLES);
    }
}

// Turn joint log-densities into w_n gamma_nk, which is 0 if the log-density is below the point's
// largest by more than `negligible`. Add to sum_n w_n log p(x_n). Return the number of nonzero terms.
// If `density` isn't null, write log p(x_n) of the n points, without the background.
int64_t weigh(const Tile& tile, const Gaussians& g, double negligible, double* weight, double* log_likelihood,
              int64_t n, double* density) {
    const int64_t K = g.K;
    const bool noisy = g.background > -INFINITY;
    const vdouble background = broadcast(g.background);
    int64_t pairs = 0;
    vdouble score[DOUBLES] = {};
    if (density && noisy) write_densities(tile, K, n, density), density = nullptr;
    for (int64_t v = 0; v < VECTORS; ++v) {
        vdouble most = tile.row(tile.joint, 0)[v], sum = {};
        for (int64_t k = 1; k < K; ++k) {
            vdouble here = tile.row(tile.joint, k)[v];
            most = here > most ? here : most;
        }
        if (noisy) most = background > most ? background : most;
        for (int64_t k = 0; k < K; ++k) {
            vdouble& here = tile.row(tile.joint, k)[v];
            const vlong matters = most - here < negligible;
            const unsigned lanes = mask(matters);
            here = lanes ? (vdouble)((vlong)exponential(here - most) & matters) : (vdouble){};
            sum += here;
            pairs += __builtin_popcount(lanes);
        }
        if (noisy) sum += exponential(background - most);
        const vdouble w = ((vdouble*)tile.w.data)[v], factor = w / sum;
        for (int64_t k = 0; k < K; ++k) tile.row(tile.joint, k)[v] *= factor;
        const vdouble log_density = most + logarithm(sum);
        score[0] += w * log_density;
        if (density && v * DOUBLES < n) write_first(log_density, n - v * DOUBLES, density + v * DOUBLES);
    }
    *log_likelihood += sums(score)[0];
    for (int64_t k = 0; k < K; k += DOUBLES) {
        vdouble part[DOUBLES] = {};
        for (int64_t j = 0; j < DOUBLES && k + j < K; ++j)
            for (int64_t v = 0; v < VECTORS; ++v) part[j] += tile.row(tile.joint, k + j)[v];
        *(vdouble*)(weight + k) += sums(part);
    }
    return pairs;
}

// Write the sums in the shapes for Python: (K,), (K, D), and (K, D, D), (D, D) or (K, D).
void unpack(const Sums& from, const Active& active, double* weight, double* first, double* second) {
    const int64_t D = from.D;
    for (int64_t k = 0; k < from.K; ++k) {
        weight[k] = from.weight.data[k];
        for (int64_t d = 0; d < D; ++d) first[k * D + d] = from.first.data[k * from.width + d];
    }
    for (int64_t k = 0; k < (from.shared ? 1 : from.K); ++k) {
        const double* s = from.second_of(k);
        if (!from.matrix) {
            for (int64_t d = 0; d < D; ++d) second[k * D + d] = s[d];
            continue;
        }
        for (int64_t i = 0; i < D; i += ROWS)
            for (int64_t j = 0; j < i + ROWS; j += COLUMNS, s += ROWS * COLUMNS)
                for (int64_t r = i; r < i + ROWS && r < D; ++r)
                    for (int64_t c = j; c < j + COLUMNS && c <= r; ++c)
                        second[(k * D + r) * D + c] = second[(k * D + c) * D + r] =
                            s[(r - i) * COLUMNS + c - j] + active.cell(k, r, c);
    }
}

// About as many multiplications as a density and its moments take.
inline double multiplications(int64_t N, const Gaussians& g) {
    const double pair = g.matrix ? (double)g.D * (double)g.D : 4.0 * (double)g.D;
    return (double)N * (double)g.K * pair;
}

// What a thread needs to compute chunks.
struct Workspace {
    const Gaussians& g;
    Tile tile;
    Sums total;
    Active active;
    Apart apart;
    const double negligible;

    explicit Workspace(const Gaussians& g)
        : g(g), tile(g.K, g.D), total(g), active(g), apart(g),
          negligible(active.worth() || apart.usable ? NEGLIGIBLE : NEVER) {}

    bool ok() const { return tile.ok() && total.ok() && active.ok() && apart.ok(); }

    void clear() {
        total.clear();
        active.clear();
    }

    // Add the points of a chunk to `total` and `active`. Returns sum_n w_n log p(x_n). If `density`
    // isn't null, write log p(x_n) there, without the background; and perhaps entropies.
    template <typename X>
    double add_chunk(const X* x, const double* w, int64_t N, double* density, const Entropies* entropies = nullptr) {
        double log_likelihood = 0.0;
        bool whole = !apart.usable || entropies;
        for (int64_t start = 0; start < N; start += PACK, x += PACK * g.D, w += PACK) {
            const int64_t n = N - start < PACK ? N - start : PACK;
            double* const own = density ? density + start : nullptr;
            if (!whole && apart.step(x, w, n, total, &log_likelihood, own)) {
                if (!own || g.background == -INFINITY) continue;
                tile.load(x, w, n, g.D);  // the screen has dropped pairs that the background hides
                log_joint(tile, g);
                write_densities(tile, g.K, n, own);
                continue;
            }
            tile.load(x, w, n, g.D);
            log_joint(tile, g);
            if (entropies) write_densities(tile, g.K, n, own, {entropies->of_component, entropies->of_point + start});
            const int64_t pairs =
                weigh(tile, g, negligible, total.weight.data, &log_likelihood, n, entropies ? nullptr : own);
            const bool few = active.worth() && pairs < g.K * PACK / 2;
            whole = !apart.usable || entropies || pairs > apart.most_pairs;
            for (int64_t k = 0; k < g.K; ++k) {
                double *one = total.first.data + k * total.width, *two = total.second_of(k);
                if (few) active.scatter(x, tile, k, one);
                else if (g.matrix) scatter_matrix(tile, g, k, one, two);
                else scatter_diagonal(tile, g, k, one, two);
            }
        }
        return log_likelihood;
    }
};

// Where a step's sums are written.
struct MixtureSums {
    double *weight, *first, *second, *log_likelihood;
    double* density;  // (N,), or null
};

// The sums of a batch are those of its chunks, in their order.
template <typename X>
struct MixtureByChunks {
    static constexpr bool ORDERED = true;
    const X* x;
    const double* w;
    const Gaussians& g;
    const MixtureSums& total;
    const int64_t cells;  // of `second`
    Places sums;

    MixtureByChunks(const X* x, const double* w, const Gaussians& g, const MixtureSums& total)
        : x(x), w(w), g(g), total(total), cells((g.shared ? 1 : g.K) * g.D * (g.matrix ? g.D : 1)),
          sums(g.K * (g.D + 1) + cells + 1) {}

    struct Scratch : Workspace {
        explicit Scratch(const MixtureByChunks& work) : Workspace(work.g) {}
    };

    // Memory per place: about as much again for what each thread adds to.
    int64_t bytes() const { return 3 * sums.size * (int64_t)sizeof(double); }

    bool reserve(int64_t places) { return sums.reserve(places); }

    MixtureSums at(int64_t place) const {
        double *weight = sums.at(place), *first = weight + g.K, *second = first + g.K * g.D;
        return {weight, first, second, second + cells, nullptr};
    }

    bool range(Workspace& space, int64_t start, int64_t n, int64_t place) {
        const MixtureSums to = at(place);
        space.clear();
        double* const density = total.density ? total.density + start : nullptr;
        *to.log_likelihood = space.add_chunk(x + start * g.D, w + start, n, density);
        unpack(space.total, space.active, to.weight, to.first, to.second);
        return true;
    }

    void retire(int64_t, int64_t place) {
        const MixtureSums from = at(place);
        add(total.weight, from.weight, g.K);
        add(total.first, from.first, g.K * g.D);
        add(total.second, from.second, cells);
        *total.log_likelihood += *from.log_likelihood;
    }
};

// `total` must be 0.
template <typename X>
bool mixture_step(const X* x, const double* w, int64_t N, const Gaussians& g, int64_t threads,
                  const MixtureSums& total) {
    if (N <= CHUNK) {
        Workspace space(g);
        if (!space.ok()) return false;
        *total.log_likelihood = space.add_chunk(x, w, N, total.density);
        unpack(space.total, space.active, total.weight, total.first, total.second);
        return true;
    }
    MixtureByChunks<X> shared(x, w, g, total);
    return share(shared, N, CHUNK, worth(multiplications(N, g), threads), shared.bytes());
}

template <typename X>
struct LogDensities : Unordered {
    static constexpr int64_t SIZE = 8 * PACK;
    const X* x;
    const Gaussians& g;
    double* out;

    LogDensities(const X* x, const Gaussians& g, double* out) : x(x), g(g), out(out) {}

    struct Scratch : Tile {
        explicit Scratch(const LogDensities& work) : Tile(work.g.K, work.g.D) {}
    };

    bool range(Tile& tile, int64_t start, int64_t N, int64_t) {
        for (const int64_t end = start + N; start < end; start += PACK) {
            const int64_t n = end - start < PACK ? end - start : PACK;
            tile.load(x + start * g.D, nullptr, n, g.D);
            log_joint(tile, g);
            for (int64_t p = 0; p < n; ++p)
                for (int64_t k = 0; k < g.K; ++k)
                    out[(start + p) * g.K + k] = tile.joint.data[k * PACK + p];
        }
        return true;
    }
};

template <typename X>
bool log_gaussians(const X* x, int64_t N, const Gaussians& g, int64_t threads, double* out) {
    LogDensities<X> shared(x, g, out);
    return share(shared, N, LogDensities<X>::SIZE, worth(multiplications(N, g), threads));
}

}  // namespace
