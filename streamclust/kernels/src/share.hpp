// Divide the points of a call among threads.
#pragma once

#include "simd.hpp"
#include "threads.hpp"

namespace {

inline int64_t chunks_of(int64_t N) { return (N + CHUNK - 1) / CHUNK; }

// The number of threads that are worth it for so many multiplications, at most `most`.
inline int64_t worth(double multiplications, int64_t most) {
    const double threads = 1.0 + multiplications / (double)WORTH_A_THREAD;
    return threads < (double)most ? (int64_t)threads : most;
}

// A task whose items are ranges of points. `Work` has
//
//     Scratch                              made by each thread, from the work
//     range(scratch, start, n, place)      computes points, and writes their sums to the place; false
//                                          if there isn't enough memory
//     reserve(places)                      makes places for sums; false if there isn't enough memory
//     retire(number, place)                takes the sums of a range, in the order of the ranges
//     ORDERED                              whether the results of ranges are taken in their order
template <typename Work>
struct PointTask : Task {
    Work& work;
    int64_t N, size;

    explicit PointTask(Work& work, int64_t N, int64_t size) : work(work), N(N), size(size) {}

    static void compute_ranges(Task& task) {
        PointTask& own = static_cast<PointTask&>(task);
        typename Work::Scratch scratch(own.work);
        if (!scratch.ok()) return give_up(task);
        for (Item item = NO_ITEM; take(task, item);) {
            const int64_t start = item.number * own.size, left = own.N - start;
            const int64_t n = left < own.size ? left : own.size;
            if (!own.work.range(scratch, start, n, item.place)) return give_up(task);
        }
    }

    static void retire_range(Task& task, Item item) {
        static_cast<PointTask&>(task).work.retire(item.number, item.place);
    }
};

// Compute N points in ranges of `size`, on up to `threads` threads. A place for sums has so many bytes.
// Returns false if there wasn't enough memory.
template <typename Work>
bool share(Work& work, int64_t N, int64_t size, int64_t threads, int64_t bytes = 0) {
    PointTask<Work> task(work, N, size);
    task.compute = PointTask<Work>::compute_ranges;
    task.retire = Work::ORDERED ? PointTask<Work>::retire_range : nullptr;
    task.items = (N + size - 1) / size;
    const int64_t fit = bytes ? 1 + MOST_SUMS / bytes : task.items + 1;
    task.threads = threads < fit ? threads : fit;
    if (task.threads > task.items) task.threads = task.items;
    task.places = task.threads <= 1 ? 1 : 2 * task.threads < fit ? 2 * task.threads : fit;
    return work.reserve(task.places) && share_work(task);
}

// For work without sums.
struct Unordered {
    static constexpr bool ORDERED = false;
    static bool reserve(int64_t) { return true; }
    static void retire(int64_t, int64_t) {}
};

// Sums of single ranges, one after the other, each of so many numbers.
struct Places {
    int64_t size;
    void* memory;

    explicit Places(int64_t size) : size(size), memory(nullptr) {}
    ~Places() { free(memory); }
    Places(const Places&) = delete;
    Places& operator=(const Places&) = delete;

    bool reserve(int64_t places) {
        memory = Buffer<double>::allocated(places * size);
        return memory != nullptr;
    }

    double* at(int64_t place) const {
        return (double*)(((uintptr_t)memory + 63) & ~(uintptr_t)63) + place * size;
    }

    double* cleared(int64_t place) const {
        double* sums = at(place);
        for (int64_t i = 0; i < size; ++i) sums[i] = 0.0;
        return sums;
    }
};

// For `by_chunks`.
template <typename Part, typename Take>
struct Chunks {
    static constexpr bool ORDERED = true;
    const Part& part;
    const Take& take;
    Places sums;

    struct Scratch {
        explicit Scratch(const Chunks&) {}
        static bool ok() { return true; }
    };

    bool reserve(int64_t places) { return sums.reserve(places); }

    bool range(Scratch&, int64_t start, int64_t n, int64_t place) {
        return part(start, start + n, sums.cleared(place));
    }

    void retire(int64_t number, int64_t place) { take(number, sums.at(place)); }
};

// Call `part(start, end, sums)` for each chunk, with so many sums that are 0, and `take(number, sums)` in
// the order of the chunks. A part returns false if there isn't enough memory; then this does, too.
template <typename Part, typename Take>
bool by_chunks(int64_t N, int64_t threads, double multiplications, int64_t sums, const Part& part,
               const Take& take) {
    Chunks<Part, Take> work = {part, take, Places(sums)};
    return share(work, N, CHUNK, worth(multiplications, threads), sums * (int64_t)sizeof(double));
}

inline void add(double* total, const double* sums, int64_t n) {
    for (int64_t i = 0; i < n; ++i) total[i] += sums[i];
}

}  // namespace
