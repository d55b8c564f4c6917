// The start of K-means and its ways out of an optimum: greedy k-means++, swaps (LS++), single moves.
//
// Each search passes over all points many times with little work per point, so one call does a whole
// search; the caller draws the random numbers. Distances are canonical (nearest.hpp). Sums are those of
// chunks, in the order of their points, added in the order of the chunks.
#pragma once

#include <math.h>

#include "share.hpp"

namespace {

constexpr int STRANDS = 4;                    // vectors of points that are processed together
constexpr int BUNDLE = STRANDS * DOUBLES;      // those points
constexpr int64_t SOME = 512;                 // points across lanes that stay in cache
constexpr double SWAP_ROUNDING = 1e-9;        // least gain of a swap, relative to J
constexpr double MOVE_ROUNDING = 1e-12;       // the same for a move; also least rest of a cluster's weight

// Points across lanes: (blocks, D, BUNDLE), the last block padded by zeros.
struct Lanes {
    int64_t N, D, blocks;
    Buffer<double> x;

    // All points, for `fill`.
    Lanes(int64_t N, int64_t D)
        : N(N), D(D), blocks(rounded_up(N, BUNDLE) / BUNDLE), x(blocks * BUNDLE * D) {}

    Lanes(const double* X, int64_t N, int64_t D) : Lanes(N, D) {
        if (ok()) fill(X, 0, N);
    }

    // The points with these numbers.
    Lanes(const Lanes& of, const int64_t* named, int64_t N) : Lanes(N, of.D) {
        if (!ok()) return;
        for (int64_t n = 0; n < blocks * BUNDLE; ++n)
            for (int64_t d = 0; d < D; ++d) at(n, d) = n < N ? of.at(named[n], d) : 0.0;
    }

    // The points from `start`, a multiple of BUNDLE, to `end`.
    void fill(const double* X, int64_t start, int64_t end) const {
        for (int64_t n = start; n < rounded_up(end, BUNDLE); ++n)
            for (int64_t d = 0; d < D; ++d) at(n, d) = n < N ? X[n * D + d] : 0.0;
    }

    bool fill(const double* X, int64_t threads) const {
        const auto part = [&](int64_t start, int64_t end, double*) {
            fill(X, start, end);
            return true;
        };
        return by_chunks(N, threads, 4.0 * (double)(N * D), 1, part, [](int64_t, double*) {});
    }

    bool ok() const { return x.ok(); }
    int64_t padded() const { return blocks * BUNDLE; }
    double& at(int64_t n, int64_t d) const {
        return x.data[(n / BUNDLE * D + d) * BUNDLE + n % BUNDLE];
    }

    // Canonical distances of a block's points to one place.
    void distances(int64_t block, const double* place, vdouble* sum) const {
        const double* from = x.data + block * D * BUNDLE;
        for (int v = 0; v < STRANDS; ++v) sum[v] = (vdouble){};
        for (int64_t d = 0; d < D; ++d, from += BUNDLE) {
            const vdouble p = broadcast(place[d]);
            for (int v = 0; v < STRANDS; ++v) {
                const vdouble difference = *(const vdouble*)(from + v * DOUBLES) - p;
                sum[v] += difference * difference;
            }
        }
    }

    void distances(int64_t block, const double* place, double* out) const {
        vdouble sum[STRANDS];
        distances(block, place, sum);
        for (int v = 0; v < STRANDS; ++v) *(vdouble*)(out + v * DOUBLES) = sum[v];
    }
};

// The cost of points, for drawing them. A point's cumulated cost is that of its chunk up to the point,
// added to that of the chunks before.
struct Urn {
    int64_t N, threads;
    int64_t last;                           // the last point that can be drawn; -1 if none
    Buffer<double> cost, within, before;    // cumulated within each chunk; before each chunk

    Urn(int64_t N, int64_t size, int64_t threads)
        : N(N), threads(threads), last(-1), cost(size), within(size), before(chunks_of(N) + 1) {}

    bool ok() const { return cost.ok() && within.ok() && before.ok(); }

    // `price(n)` is the cost of point n.
    template <typename Price>
    bool fill(const Price& price) {
        double most = 0.0;
        last = -1;
        const auto look = [&](int64_t start, int64_t end, double* sums) {
            double largest = 0.0;
            int64_t latest = -1;
            for (int64_t n = start; n < end; ++n) {
                const double here = cost.data[n] = price(n);
                if (here > largest) largest = here;
                if (here > 0.0) latest = n;
            }
            sums[0] = largest, sums[1] = (double)latest;
            return true;
        };
        const auto compare = [&](int64_t, const double* sums) {
            if (sums[0] > most) most = sums[0];
            if (sums[1] >= 0.0) last = (int64_t)sums[1];
        };
        if (!by_chunks(N, threads, 8.0 * (double)N, 2, look, compare)) return false;
        if (last < 0) return true;
        const auto cumulate = [&](int64_t start, int64_t end, double* sums) {
            double sum = 0.0;
            for (int64_t n = start; n < end; ++n) within.data[n] = sum += cost.data[n] / most;
            *sums = sum;
            return true;
        };
        const auto place = [&](int64_t chunk, const double* sums) {
            before.data[chunk + 1] = before.data[chunk] + *sums;
        };
        before.data[0] = 0.0;
        return by_chunks(N, threads, 16.0 * (double)N, 1, cumulate, place);
    }

    double cumulated(int64_t n) const { return before.data[n / CHUNK] + within.data[n]; }

    // The first point whose cumulated share is above that of `uniform`.
    int64_t draw(double uniform) const {
        const double wanted = uniform * cumulated(N - 1);
        int64_t low = 0, high = last;
        while (low < high) {
            const int64_t middle = (low + high) / 2;
            if (cumulated(middle) > wanted) high = middle;
            else low = middle + 1;
        }
        return low;
    }
};

// Choose `K` points, or all distinct ones if fewer. The first point uses one random number, each of
// the others `trials`.
bool plusplus(const double* X, const double* w, int64_t N, int64_t D, int64_t K, int64_t trials,
              const double* uniform, int64_t threads, int64_t* chosen, int64_t* found) {
    const Lanes points(N, D);
    const int64_t size = points.padded();
    Buffer<double> nearest(size), candidates(size * trials), total(trials);
    Buffer<int64_t> drawn(trials);
    Urn urn(N, size, threads);
    *found = 0;
    if (!(points.ok() && nearest.ok() && candidates.ok() && total.ok() && drawn.ok() && urn.ok() &&
          points.fill(X, threads)))
        return false;
    for (int64_t n = 0; n < size; ++n) nearest.data[n] = INFINITY;
    if (!urn.fill([&](int64_t n) { return w[n]; })) return false;
    for (int64_t k = 0; k < K && urn.last >= 0; ++k) {
        const int64_t draws = k == 0 ? 1 : trials;
        for (int64_t t = 0; t < draws; ++t) {
            drawn.data[t] = urn.draw(*uniform++);
            total.data[t] = 0.0;
        }
        const auto compare = [&](int64_t start, int64_t end, double* sums) {
            for (int64_t first = start; first < end; first += BUNDLE) {
                for (int64_t t = 0; t < draws; ++t)
                    points.distances(first / BUNDLE, X + drawn.data[t] * D, candidates.data + t * size + first);
                for (int64_t n = first; n < first + BUNDLE && n < end; ++n)
                    for (int64_t t = 0; t < draws; ++t) {
                        double& distance = candidates.data[t * size + n];
                        if (nearest.data[n] < distance) distance = nearest.data[n];
                        sums[t] += w[n] * distance;
                    }
            }
            return true;
        };
        const auto take = [&](int64_t, const double* sums) { add(total.data, sums, draws); };
        if (!by_chunks(N, threads, (double)(N * D * draws), draws, compare, take)) return false;
        int64_t best = 0;
        for (int64_t t = 1; t < draws; ++t)
            if (total.data[t] < total.data[best]) best = t;
        chosen[(*found)++] = drawn.data[best];
        const double* now = candidates.data + best * size;
        if (k + 1 < K && !urn.fill([&](int64_t n) { return w[n] * (nearest.data[n] = now[n]); })) return false;
    }
    return true;
}

// Each point's nearest and second nearest centroid, the first of equal ones, and the distances.
struct NearestTwo {
    Buffer<int64_t> first, second;
    Buffer<double> d1, d2;

    explicit NearestTwo(int64_t n) : first(n), second(n), d1(n), d2(n) {}
    bool ok() const { return first.ok() && second.ok() && d1.ok() && d2.ok(); }

    // Those of the points from `start`, a multiple of BUNDLE, to `end`.
    void find(const Lanes& points, const double* C, int64_t K, int64_t start, int64_t end) {
        for (int64_t b = start / BUNDLE; b * BUNDLE < end; ++b) {
            vdouble near[STRANDS], next[STRANDS], sum[STRANDS];
            vlong which[STRANDS], other[STRANDS];
            for (int v = 0; v < STRANDS; ++v) {
                near[v] = next[v] = broadcast((double)INFINITY);
                which[v] = other[v] = (vlong){};
            }
            for (int64_t k = 0; k < K; ++k) {
                points.distances(b, C + k * points.D, sum);
                const vlong here = k - (vlong){};
                for (int v = 0; v < STRANDS; ++v) {
                    const vlong nearer = sum[v] < near[v], between = sum[v] < next[v];
                    next[v] = nearer ? near[v] : between ? sum[v] : next[v];
                    other[v] = nearer ? which[v] : between ? here : other[v];
                    near[v] = nearer ? sum[v] : near[v];
                    which[v] = nearer ? here : which[v];
                }
            }
            for (int v = 0; v < STRANDS; ++v) {
                const int64_t at = b * BUNDLE + v * DOUBLES;
                *(vdouble*)(d1.data + at) = near[v];
                *(vdouble*)(d2.data + at) = next[v];
                *(vlong*)(first.data + at) = which[v];
                *(vlong*)(second.data + at) = other[v];
            }
        }
    }

    void take(int64_t n, const NearestTwo& from, int64_t i) {
        first.data[n] = from.first.data[i];
        second.data[n] = from.second.data[i];
        d1.data[n] = from.d1.data[i];
        d2.data[n] = from.d2.data[i];
    }
};

// Update the points of a chunk after centroid `k` has moved; `distance` is to its new place.
inline bool moved(NearestTwo& near, const Lanes& points, const double* C, int64_t K, int64_t k,
                  const double* distance, int64_t start, int64_t end) {
    Buffer<int64_t> bereft(end - start);
    if (!bereft.ok()) return false;
    int64_t count = 0;
    for (int64_t n = start; n < end; ++n) {
        if (near.first.data[n] == k || near.second.data[n] == k) {
            bereft.data[count++] = n;
        } else if (distance[n] < near.d1.data[n]) {
            near.second.data[n] = near.first.data[n];
            near.d2.data[n] = near.d1.data[n];
            near.first.data[n] = k;
            near.d1.data[n] = distance[n];
        } else if (distance[n] < near.d2.data[n]) {
            near.second.data[n] = k;
            near.d2.data[n] = distance[n];
        }
    }
    const Lanes some(points, bereft.data, count);
    NearestTwo again(some.padded());
    if (!some.ok() || !again.ok()) return false;
    again.find(some, C, K, 0, count);
    for (int64_t i = 0; i < count; ++i) near.take(bereft.data[i], again, i);
    return true;
}

// Swap centroids for points, one trial per random number.
bool swaps(const double* X, const double* w, int64_t N, int64_t D, double* C, int64_t K,
           const double* uniform, int64_t trials, int64_t threads) {
    const Lanes points(N, D);
    const int64_t size = points.padded();
    NearestTwo near(size);
    Buffer<double> distance(size), sums(K + 2);
    Urn urn(N, size, threads);
    if (!(points.ok() && near.ok() && distance.ok() && sums.ok() && urn.ok() && points.fill(X, threads)))
        return false;
    double &before = sums.data[0], &kept = sums.data[1], *lost = sums.data + 2;
    const auto ignore = [](int64_t, const double*) {};
    const auto find = [&](int64_t start, int64_t end, double*) {
        near.find(points, C, K, start, end);
        return true;
    };
    if (!by_chunks(N, threads, (double)(N * K * D), 1, find, ignore)) return false;
    for (int64_t trial = 0; trial < trials; ++trial) {
        if (!urn.fill([&](int64_t n) { return w[n] * near.d1.data[n]; })) return false;
        if (urn.last < 0) return true;
        const double* place = X + urn.draw(uniform[trial]) * D;
        const auto compare = [&](int64_t start, int64_t end, double* own) {
            for (int64_t first = start; first < end; first += BUNDLE)
                points.distances(first / BUNDLE, place, distance.data + first);
            double now = 0.0, rest = 0.0;
            for (int64_t n = start; n < end; ++n) {
                const double d = distance.data[n];
                const double d1 = near.d1.data[n] < d ? near.d1.data[n] : d;
                const double d2 = near.d2.data[n] < d ? near.d2.data[n] : d;
                now += urn.cost.data[n];
                rest += w[n] * d1;
                own[2 + near.first.data[n]] += w[n] * (d2 - d1);
            }
            own[0] = now, own[1] = rest;
            return true;
        };
        for (int64_t i = 0; i < K + 2; ++i) sums.data[i] = 0.0;
        const auto take = [&](int64_t, const double* own) { add(sums.data, own, K + 2); };
        if (!by_chunks(N, threads, (double)(N * D), K + 2, compare, take)) return false;
        int64_t k = 0;
        for (int64_t j = 1; j < K; ++j)
            if (kept + lost[j] < kept + lost[k]) k = j;
        if (!(kept + lost[k] < (1.0 - SWAP_ROUNDING) * before)) continue;
        for (int64_t d = 0; d < D; ++d) C[k * D + d] = place[d];
        const auto update = [&](int64_t start, int64_t end, double*) {
            return moved(near, points, C, K, k, distance.data, start, end);
        };
        if (!by_chunks(N, threads, (double)(N * D), 1, update, ignore)) return false;
    }
    return true;
}

// The fall of J with the best move of each point of a block to another cluster, and that cluster.
struct Moves {
    const double *w;
    const int64_t* labels;
    const double* C;
    int64_t K, D;
    const double* weight;
    double* gain;
    int64_t* target;

    // The block starts with the point `start`. Its inertia is added to `cost`.
    void block(const Lanes& points, int64_t b, int64_t start, double* cost) const {
        const int64_t left = points.N - b * BUNDLE, n = left < BUNDLE ? left : BUNDLE;
        alignas(64) double mass[BUNDLE] = {}, own[BUNDLE] = {}, least_rise[BUNDLE];
        alignas(64) int64_t label[BUNDLE] = {}, best[BUNDLE];
        for (int64_t i = 0; i < n; ++i) {
            mass[i] = w[start + i];
            label[i] = labels[start + i];
        }
        vdouble rise[STRANDS], sum[STRANDS], here[STRANDS];
        vlong which[STRANDS];
        for (int v = 0; v < STRANDS; ++v) {
            rise[v] = broadcast((double)INFINITY);
            here[v] = (vdouble){};
            which[v] = (vlong){};
        }
        for (int64_t k = 0; k < K; ++k) {
            points.distances(b, C + k * D, sum);
            const vdouble W = broadcast(weight[k]);
            const vlong index = k - (vlong){};
            for (int v = 0; v < STRANDS; ++v) {
                const vdouble m = *(const vdouble*)(mass + v * DOUBLES);
                const vlong mine = *(const vlong*)(label + v * DOUBLES) == index;
                const vdouble entering = sum[v] * (m * W / (W + m));
                const vlong less = entering < rise[v] & ~mine;
                here[v] = mine ? sum[v] : here[v];
                rise[v] = less ? entering : rise[v];
                which[v] = less ? index : which[v];
            }
        }
        for (int v = 0; v < STRANDS; ++v) {
            *(vdouble*)(own + v * DOUBLES) = here[v];
            *(vdouble*)(least_rise + v * DOUBLES) = rise[v];
            *(vlong*)(best + v * DOUBLES) = which[v];
        }
        for (int64_t i = 0; i < n; ++i) {
            const double of = weight[label[i]], rest = of - mass[i];
            const bool shared = rest > MOVE_ROUNDING * of;  // else the point is the whole cluster
            const double fall = shared ? mass[i] * of * own[i] / rest : 0.0;
            gain[start + i] = fall - least_rise[i];
            target[start + i] = best[i];
            *cost += mass[i] * own[i];
        }
    }
};

// For each point: the fall of J with its best move to another cluster, or 0, and that cluster.
inline bool find_moves(const Moves& moves, const double* X, int64_t N, int64_t threads) {
    double inertia = 0.0;
    const auto part = [&](int64_t start, int64_t end, double* sums) {
        for (int64_t first = start; first < end; first += SOME) {
            const int64_t n = end - first < SOME ? end - first : SOME;
            const Lanes points(X + first * moves.D, n, moves.D);
            if (!points.ok()) return false;
            for (int64_t b = 0; b < points.blocks; ++b) moves.block(points, b, first + b * BUNDLE, sums);
        }
        return true;
    };
    const auto take = [&](int64_t, const double* sums) { inertia += *sums; };
    if (!by_chunks(N, threads, (double)(N * moves.K * moves.D), 1, part, take)) return false;
    for (int64_t i = 0; i < N; ++i)
        if (!(moves.gain[i] > MOVE_ROUNDING * inertia)) moves.gain[i] = 0.0;
    return true;
}

}  // namespace
