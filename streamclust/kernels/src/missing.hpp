// Missing values: the texts that stand for one, and points that have some.
#pragma once

#include "redis_reply.hpp"

static const double MISSING = __builtin_nan("");

// Whether a text is this one, which is in lowercase, in any case of the letters.
static inline bool is_word(Text text, const char* word) {
    if ((int64_t)strlen(word) != text.size) return false;
    for (int64_t i = 0; i < text.size; i++) {
        const char c = text.at[i];
        if ((c >= 'A' && c <= 'Z' ? (char)(c + 32) : c) != word[i]) return false;
    }
    return true;
}

// Whether a text stands for a missing value. Python decides on texts with other blanks.
static inline bool is_missing(Text text) {
    static const char* const WORDS[] = {"nan", "null", "none", "na",
                                        "n/a", "<na>", "-nan", "+nan"};
    if (text.size == 0) return true;
    for (const char* word : WORDS)
        if (is_word(text, word)) return true;
    return false;
}

// Read null or NaN, as JSON has them; null for any other text.
static inline const char* read_json_gap(const char* p, const char* end, double& value) {
    static const char* const WORDS[] = {"null", "NaN"};
    for (const char* word : WORDS) {
        const int64_t size = (int64_t)strlen(word);
        if (end - p >= size && !memcmp(p, word, size)) {
            value = MISSING;
            return p + size;
        }
    }
    return nullptr;
}

// Whether each of n points has a value, and all values are of a magnitude up to `limit`. Each NaN
// becomes MISSING.
template <typename T>
static inline bool are_partly_sane(T* values, int64_t n, int64_t D, double limit) {
    for (int64_t i = 0; i < n; i++, values += D) {
        int64_t present = 0;
        for (int64_t d = 0; d < D; d++) {
            if (values[d] != values[d]) {
                values[d] = (T)MISSING;
                continue;
            }
            if (!(values[d] <= limit && values[d] >= -limit)) return false;
            present++;
        }
        if (present == 0) return false;
    }
    return true;
}
