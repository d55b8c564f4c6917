// The threads of this process that help others with their tasks. Compiled once, for any processor.
//
// A thread that calls a kernel computes its own task. If a task is large, it invites helpers, as long
// as fewer threads compute in this process than the task may use. Calls of other threads count too,
// so 16 models that learn at the same time on 16 cores use one thread each, and a model that is alone
// uses all. This is decided again for each item: a helper leaves if too many threads compute, and is
// invited again when others have ended.
//
// A helper starts when it is first needed, sleeps between tasks, and never ends. After a fork, the
// child starts its own. Helpers block all signals, which are for the threads of Python.

#include "threads.hpp"

#include <signal.h>
#include <stdlib.h>

namespace {

struct Pool {
    pthread_mutex_t lock;
    pthread_cond_t invited;
    Task* tasks;             // whose callers are computing
    int64_t idle, wanted;    // helpers without a task; invitations that none has taken
};

Pool pool = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, nullptr, 0, 0};
int64_t computing = 0;  // threads in kernels; atomic

int64_t threads_computing() { return __atomic_load_n(&computing, __ATOMIC_RELAXED); }

// In the child, other threads are gone, and any of them may have had the lock.
void after_fork() {
    pthread_mutex_init(&pool.lock, nullptr);
    pthread_cond_init(&pool.invited, nullptr);
    pool.tasks = nullptr;
    pool.idle = pool.wanted = computing = 0;
}

__attribute__((constructor)) void prepare_for_forks() { pthread_atfork(nullptr, nullptr, after_fork); }

Task* inviting() {
    Task* task = pool.tasks;
    while (task && !task->invited) task = task->following;
    return task;
}

void* help(void*) {
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        Task* task = inviting();
        if (!task) {
            pthread_cond_wait(&pool.invited, &pool.lock);
            continue;
        }
        --task->invited, --pool.wanted, --pool.idle, ++task->workers;
        pthread_mutex_unlock(&pool.lock);
        task->compute(*task);
        pthread_mutex_lock(&pool.lock);
        --task->workers, ++pool.idle;
        leave();
        pthread_cond_broadcast(&task->moved);
    }
}

bool start_helper() {
    sigset_t all, before;
    sigfillset(&all);
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 1 << 20);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const bool started = pthread_create(&thread, &attributes, help, nullptr) == 0;
#if defined(__linux__)
    if (started) pthread_setname_np(thread, "kernels");
#endif
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    pthread_attr_destroy(&attributes);
    return started;
}

// Invite as many helpers as the task may still use. If the system refuses a thread, do with fewer.
void invite(Task& task) {
    while (task.workers + task.invited < task.threads && task.invited < task.items - task.next &&
           threads_computing() < task.threads) {
        if (pool.wanted == pool.idle) {
            if (!start_helper()) return;
            ++pool.idle;
        }
        ++task.invited, ++pool.wanted;
        enter();
        pthread_cond_signal(&pool.invited);
    }
}

void withdraw(Task& task) {
    Task** link = &pool.tasks;
    while (*link != &task) link = &(*link)->following;
    *link = task.following;
    pool.wanted -= task.invited;
    for (; task.invited; --task.invited) leave();
}

// Retire this item and those after it that are computed, unless another thread is doing so.
void computed(Task& task, Item item) {
    task.computed[item.number % task.places] = item.place;
    if (task.retiring) return;
    task.retiring = true;
    for (int64_t place; (place = task.computed[task.retired % task.places]) >= 0;) {
        task.computed[task.retired % task.places] = -1;
        const Item next = {task.retired, place};
        pthread_mutex_unlock(&pool.lock);
        task.retire(task, next);
        pthread_mutex_lock(&pool.lock);
        ++task.retired;
        task.free_places[task.free++] = place;
        if (task.waiting) pthread_cond_broadcast(&task.moved);
    }
    task.retiring = false;
}

bool must_leave(const Task& task) {
    return !pthread_equal(pthread_self(), task.caller) && threads_computing() > task.threads;
}

// With the lock. Without a free place, wait until items are retired.
bool take_shared(Task& task, Item& item) {
    if (item.number >= 0 && task.retire) computed(task, item);
    for (;;) {
        if (task.failed || task.next == task.items || must_leave(task)) return false;
        if (!task.retire || task.free) break;
        ++task.waiting;
        pthread_cond_wait(&task.moved, &pool.lock);
        --task.waiting;
    }
    item.number = task.next++;
    item.place = task.retire ? task.free_places[--task.free] : 0;
    invite(task);
    return true;
}

bool take_alone(Task& task, Item& item) {
    if (item.number >= 0 && task.retire) task.retire(task, item);
    if (task.failed || task.next == task.items) return false;
    item = {task.next++, 0};
    return true;
}

bool share_with_helpers(Task& task) {
    task.free_places = (int64_t*)malloc(2 * task.places * sizeof(int64_t));
    if (!task.free_places) return false;
    task.computed = task.free_places + task.places;
    for (int64_t i = 0; i < task.places; ++i) task.free_places[i] = i, task.computed[i] = -1;
    task.free = task.places;
    pthread_cond_init(&task.moved, nullptr);
    pthread_mutex_lock(&pool.lock);
    task.following = pool.tasks;
    pool.tasks = &task;
    pthread_mutex_unlock(&pool.lock);
    task.compute(task);
    pthread_mutex_lock(&pool.lock);
    withdraw(task);
    while (task.workers > 1) pthread_cond_wait(&task.moved, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
    pthread_cond_destroy(&task.moved);
    free(task.free_places);
    return !task.failed;
}

}  // namespace

bool share_work(Task& task) {
    task.next = task.retired = task.invited = task.waiting = 0;
    task.workers = 1;
    task.failed = task.retiring = false;
    task.caller = pthread_self();
    task.alone = task.threads <= 1 || task.items <= 1;
    if (!task.alone) return share_with_helpers(task);
    task.compute(task);
    return !task.failed;
}

bool take(Task& task, Item& item) {
    if (task.alone) return take_alone(task, item);
    pthread_mutex_lock(&pool.lock);
    const bool taken = take_shared(task, item);
    pthread_mutex_unlock(&pool.lock);
    return taken;
}

void give_up(Task& task) {
    if (task.alone) {
        task.failed = true;
        return;
    }
    pthread_mutex_lock(&pool.lock);
    task.failed = true;
    pthread_cond_broadcast(&task.moved);
    pthread_mutex_unlock(&pool.lock);
}

void enter() { __atomic_fetch_add(&computing, 1, __ATOMIC_RELAXED); }
void leave() { __atomic_fetch_sub(&computing, 1, __ATOMIC_RELAXED); }
