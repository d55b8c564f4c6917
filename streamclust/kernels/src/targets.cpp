// The compiled targets, and whether this processor can run them.

#define EXPORT(type) extern "C" __attribute__((visibility("default"))) type

// The hash of the sources: Python doesn't call a library of another version.
EXPORT(const char*) streamclust_sources() { return SOURCES; }

// The compiler: another one may round a mixture's sums differently.
#if defined(__clang__)
EXPORT(const char*) streamclust_compiler() { return __VERSION__; }
#else
EXPORT(const char*) streamclust_compiler() { return "GCC " __VERSION__; }
#endif

EXPORT(int) streamclust_supports_baseline() { return 1; }

#if defined(__x86_64__)
EXPORT(int) streamclust_supports_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

EXPORT(int) streamclust_supports_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
}

EXPORT(int) streamclust_supports_avx512vnni() {
    return streamclust_supports_avx512() && __builtin_cpu_supports("avx512vnni");
}
#endif
