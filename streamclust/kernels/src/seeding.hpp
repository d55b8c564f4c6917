// The start of K-means and its ways out of an optimum: greedy k-means++, swaps (LS++), single moves.
//
// Each search passes over all points many times with little work per point, so one call does a whole
// search; the caller draws the random numbers. Distances are canonical (nearest.hpp), and sums are in
// the order of the points; those of moves by chunks.
#pragma once

#include <math.h>

#include "share.hpp"

namespace {

constexpr int STRANDS = 4;                    // vectors of points that are processed together
constexpr int BUNDLE = STRANDS * DOUBLES;      // those points
constexpr double SWAP_ROUNDING = 1e-9;        // least gain of a swap, relative to J
constexpr double MOVE_ROUNDING = 1e-12;       // the same for a move; also least rest of a cluster's weight

// Points across lanes: (blocks, D, BUNDLE), the last block padded by zeros.
struct Lanes {
    int64_t N, D, blocks;
    Buffer<double> x;

    Lanes(const double* X, int64_t N, int64_t D)
        : N(N), D(D), blocks(rounded_up(N, BUNDLE) / BUNDLE), x(blocks * BUNDLE * D) {
        if (!ok()) return;
        for (int64_t n = 0; n < blocks * BUNDLE; ++n)
            for (int64_t d = 0; d < D; ++d) at(n, d) = n < N ? X[n * D + d] : 0.0;
    }

    // The points with these indices.
    Lanes(const Lanes& of, const int64_t* named, int64_t N)
        : N(N), D(of.D), blocks(rounded_up(N, BUNDLE) / BUNDLE), x(blocks * BUNDLE * D) {
        if (!ok()) return;
        for (int64_t n = 0; n < blocks * BUNDLE; ++n)
            for (int64_t d = 0; d < D; ++d) at(n, d) = n < N ? of.at(named[n], d) : 0.0;
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

    void distances(const double* place, double* out) const {
        for (int64_t b = 0; b < blocks; ++b) {
            vdouble sum[STRANDS];
            distances(b, place, sum);
            for (int v = 0; v < STRANDS; ++v) *(vdouble*)(out + b * BUNDLE + v * DOUBLES) = sum[v];
        }
    }
};

// Cumulative cost, for drawing points.
struct Urn {
    int64_t last;              // the last point that can be drawn; -1 if none
    Buffer<double> cumulated;

    explicit Urn(int64_t N) : last(-1), cumulated(N) {}

    void fill(const double* cost, int64_t N) {
        double most = 0.0;
        last = -1;
        for (int64_t n = 0; n < N; ++n) {
            if (cost[n] > most) most = cost[n];
            if (cost[n] > 0.0) last = n;
        }
        if (last < 0) return;
        double sum = 0.0;
        for (int64_t n = 0; n < N; ++n) cumulated.data[n] = sum += cost[n] / most;
        size = N;
    }

    // The first point whose cumulated share is above that of `uniform`.
    int64_t draw(double uniform) const {
        const double wanted = uniform * cumulated.data[size - 1];
        int64_t low = 0, high = last;
        while (low < high) {
            const int64_t middle = (low + high) / 2;
            if (cumulated.data[middle] > wanted) high = middle;
            else low = middle + 1;
        }
        return low;
    }

  private:
    int64_t size = 0;
};

// Choose `K` points, or all distinct ones if fewer. The first point uses one random number, each of
// the others `trials`.
bool plusplus(const double* X, const double* w, int64_t N, int64_t D, int64_t K, int64_t trials,
              const double* uniform, int64_t* chosen, int64_t* found) {
    const Lanes points(X, N, D);
    const int64_t size = points.padded();
    Buffer<double> nearest(size), cost(size), candidates(size * trials), total(trials);
    Buffer<int64_t> drawn(trials);
    Urn urn(size);
    *found = 0;
    if (!(points.ok() && nearest.ok() && cost.ok() && candidates.ok() && total.ok() &&
          drawn.ok() && urn.cumulated.ok()))
        return false;
    for (int64_t n = 0; n < size; ++n) nearest.data[n] = INFINITY;
    for (int64_t n = 0; n < N; ++n) cost.data[n] = w[n];
    for (int64_t k = 0; k < K; ++k) {
        urn.fill(cost.data, N);
        if (urn.last < 0) return true;
        const int64_t draws = k == 0 ? 1 : trials;
        for (int64_t t = 0; t < draws; ++t) {
            drawn.data[t] = urn.draw(*uniform++);
            points.distances(X + drawn.data[t] * D, candidates.data + t * size);
            total.data[t] = 0.0;
        }
        for (int64_t n = 0; n < N; ++n)
            for (int64_t t = 0; t < draws; ++t) {
                double& distance = candidates.data[t * size + n];
                if (nearest.data[n] < distance) distance = nearest.data[n];
                total.data[t] += w[n] * distance;
            }
        int64_t best = 0;
        for (int64_t t = 1; t < draws; ++t)
            if (total.data[t] < total.data[best]) best = t;
        chosen[(*found)++] = drawn.data[best];
        for (int64_t n = 0; n < N; ++n) {
            nearest.data[n] = candidates.data[best * size + n];
            cost.data[n] = w[n] * nearest.data[n];
        }
    }
    return true;
}

// Each point's nearest and second nearest centroid, the first of equal ones, and the distances.
struct NearestTwo {
    Buffer<int64_t> first, second;
    Buffer<double> d1, d2;

    explicit NearestTwo(int64_t n) : first(n), second(n), d1(n), d2(n) {}
    bool ok() const { return first.ok() && second.ok() && d1.ok() && d2.ok(); }

    void find(const Lanes& points, const double* C, int64_t K) {
        for (int64_t b = 0; b < points.blocks; ++b) {
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

// Update all points after centroid `k` has moved; `distance` is to its new place.
inline bool moved(NearestTwo& near, const Lanes& points, const double* C, int64_t K, int64_t k,
                  const double* distance) {
    Buffer<int64_t> bereft(points.N);
    if (!bereft.ok()) return false;
    int64_t count = 0;
    for (int64_t n = 0; n < points.N; ++n) {
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
    again.find(some, C, K);
    for (int64_t i = 0; i < count; ++i) near.take(bereft.data[i], again, i);
    return true;
}

// Swap centroids for points, one trial per random number.
bool swaps(const double* X, const double* w, int64_t N, int64_t D, double* C, int64_t K,
           const double* uniform, int64_t trials) {
    const Lanes points(X, N, D);
    const int64_t size = points.padded();
    NearestTwo near(size);
    Buffer<double> cost(size), distance(size), lost(K);
    Urn urn(size);
    if (!(points.ok() && near.ok() && cost.ok() && distance.ok() && lost.ok() &&
          urn.cumulated.ok()))
        return false;
    near.find(points, C, K);
    for (int64_t trial = 0; trial < trials; ++trial) {
        for (int64_t n = 0; n < N; ++n) cost.data[n] = w[n] * near.d1.data[n];
        urn.fill(cost.data, N);
        if (urn.last < 0) return true;
        const double* place = X + urn.draw(uniform[trial]) * D;
        points.distances(place, distance.data);
        for (int64_t k = 0; k < K; ++k) lost.data[k] = 0.0;
        double before = 0.0, kept = 0.0;
        for (int64_t n = 0; n < N; ++n) {
            const double d = distance.data[n];
            const double d1 = near.d1.data[n] < d ? near.d1.data[n] : d;
            const double d2 = near.d2.data[n] < d ? near.d2.data[n] : d;
            before += cost.data[n];
            kept += w[n] * d1;
            lost.data[near.first.data[n]] += w[n] * (d2 - d1);
        }
        int64_t k = 0;
        for (int64_t j = 1; j < K; ++j)
            if (kept + lost.data[j] < kept + lost.data[k]) k = j;
        if (!(kept + lost.data[k] < (1.0 - SWAP_ROUNDING) * before)) continue;
        for (int64_t d = 0; d < D; ++d) C[k * D + d] = place[d];
        if (!moved(near, points, C, K, k, distance.data)) return false;
    }
    return true;
}

// For each point: the fall of J with its best move to another cluster, or 0, and that cluster.
struct Moves {
    static constexpr bool ORDERED = true;
    const double *X, *w;
    const int64_t* labels;
    const double* C;
    int64_t K, D;
    const double* weight;
    double* gain;
    int64_t* target;
    Places sums = Places(1);  // inertia
    double inertia = 0.0;

    struct Scratch {
        explicit Scratch(const Moves&) {}
        static bool ok() { return true; }
    };

    bool reserve(int64_t places) { return sums.reserve(places); }
    void retire(int64_t, int64_t place) { inertia += *sums.at(place); }

    bool range(Scratch&, int64_t from, int64_t N, int64_t place) {
        const Lanes points(X + from * D, N, D);
        if (!points.ok()) return false;
        double* cost = sums.cleared(place);
        for (int64_t b = 0; b < points.blocks; ++b) block(points, b, from + b * BUNDLE, cost);
        return true;
    }

    void block(const Lanes& points, int64_t b, int64_t start, double* cost) {
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

inline bool find_moves(Moves& moves, int64_t N, int64_t threads) {
    const double work = (double)N * (double)moves.K * (double)moves.D;
    if (!share(moves, N, CHUNK, worth(work, threads))) return false;
    for (int64_t i = 0; i < N; ++i)
        if (!(moves.gain[i] > MOVE_ROUNDING * moves.inertia)) moves.gain[i] = 0.0;
    return true;
}

}  // namespace
