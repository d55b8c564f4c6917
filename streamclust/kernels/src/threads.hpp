// Work that several threads share: a task is a number of items, which any thread may compute. Results
// are taken in the order of the items, so they don't depend on the threads. See threads.cpp.
#pragma once

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

// Points whose sums are added together. The sums of a batch are those of its chunks, in their order.
// Never change it: results would have other bits.
constexpr int64_t CHUNK = 8192;

constexpr int64_t WORTH_A_THREAD = 1 << 24;   // multiplications below which a thread costs more than it saves
constexpr int64_t MOST_SUMS = 256 << 20;      // bytes that a task may use for sums of single chunks

// An item that a thread computes. Its sums are written to `place`, a number below `Task::places`.
struct Item {
    int64_t number, place;
};

constexpr Item NO_ITEM = {-1, 0};

struct Task {
    void (*compute)(Task&);             // runs on each thread: computes items until `take` has no more
    void (*retire)(Task&, Item);        // takes the sums of an item; in the order of items. May be null
    int64_t items, threads, places;     // threads: the maximum; places: at least as many

    // Set by `share_work`, and used only with the lock.
    int64_t next, retired, workers, invited, waiting, free;
    bool alone, failed, retiring;
    int64_t *free_places, *computed;    // (places,): stack; place of each computed item, by number mod places
    pthread_t caller;
    pthread_cond_t moved;
    Task* following;
};

extern "C" {
// Compute all items of a task; false if there wasn't enough memory.
__attribute__((visibility("hidden"))) bool share_work(Task&);

// Take the next item; the one before it, if any, is computed. False if the thread has to leave.
__attribute__((visibility("hidden"))) bool take(Task&, Item&);

// There isn't enough memory: no more items are computed.
__attribute__((visibility("hidden"))) void give_up(Task&);

// Count the threads that compute.
__attribute__((visibility("hidden"))) void enter();
__attribute__((visibility("hidden"))) void leave();
}

namespace {

// A thread that runs a kernel, for as long as this exists.
struct Caller {
    Caller() { enter(); }
    ~Caller() { leave(); }
};

}  // namespace
