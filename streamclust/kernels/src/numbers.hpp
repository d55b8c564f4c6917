// Converts text to the nearest double, with the same bits as Python's float().
//
// Only plain numbers of up to 19 digits, from about 1e-35 to 1e38, are converted; other texts are
// left to Python. The digits are an integer w, and w * 10^q is rounded once (Clinger 1990, "How to read
// floating point numbers accurately"): by one division or product of doubles where both are exact,
// else by a quotient of integers with 63 bits and a flag for a remainder.
#pragma once

#include <stdint.h>
#include <string.h>

#ifdef __SIZEOF_INT128__
__extension__ typedef unsigned __int128 uint128_t;

static inline double power_of_two(int64_t exponent) {
    const uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// 5^0 to 5^27, which has 63 bits.
struct Fives {
    uint64_t of[28];
    constexpr Fives() : of() {
        of[0] = 1;
        for (int k = 1; k < 28; k++) of[k] = of[k - 1] * 5;
    }
};

static constexpr Fives FIVES;

// w / 10^k for k up to 27.
static inline double divide_short(uint64_t w, int64_t k) {
    const uint64_t five = FIVES.of[k];
    const int64_t up = __builtin_clzll(w), up_five = __builtin_clzll(five);
    const uint128_t n = (uint128_t)(w << up) << 63;
    const uint64_t d = five << up_five, quotient = (uint64_t)(n / d);
    const uint64_t rest = (uint64_t)(n - (uint128_t)quotient * d);
    return (double)(quotient | (rest != 0)) * power_of_two(up_five - up - 63 - k);
}

// w / 10^k for k from 28 up to 54, where 5^k has 126 bits at most.
static inline double divide_long(uint64_t w, int64_t k) {
    uint128_t d = (uint128_t)FIVES.of[27] * FIVES.of[k - 27];
    const int64_t up = __builtin_clzll(w), up_five = __builtin_clzll((uint64_t)(d >> 64)) - 1;
    uint128_t rest = (uint128_t)(w << up) << 63;
    d <<= up_five;
    uint64_t quotient = 0;
    for (int bit = 0; bit < 64; bit++, rest <<= 1) {
        quotient <<= 1;
        if (rest >= d) rest -= d, quotient |= 1;
    }
    return (double)(quotient | (rest != 0)) * power_of_two(up_five - up - 126 - k);
}

// w * 10^q for q up to 54, if w * 5^q fits into 128 bits.
static inline bool multiply(uint64_t w, int64_t q, double& value) {
    const int64_t low = q < 27 ? q : 27;
    const uint128_t product = (uint128_t)w * FIVES.of[low];
    const uint64_t more = FIVES.of[q - low];
    if (product > ~(uint128_t)0 / more) return false;
    value = (double)(product * more) * power_of_two(q);
    return true;
}

// Whether w * 10^q, w > 0, can be rounded here.
static inline bool scale(uint64_t w, int64_t q, double& value) {
    static const double TENS[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                  1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (w <= (uint64_t)1 << 53 && q >= -22 && q <= 22) {
        value = q < 0 ? (double)w / TENS[-q] : (double)w * TENS[q];
        return true;
    }
    if (q < -54 || q > 54) return false;
    if (q > 0) return multiply(w, q, value);
    value = q >= -27 ? divide_short(w, -q) : divide_long(w, -q);
    return true;
}
#else
static inline bool scale(uint64_t, int64_t, double&) { return false; }
#endif

static inline bool is_digit(const char* p, const char* end) {
    return p < end && (unsigned char)(*p - '0') < 10;
}

static inline const char* read_digits(const char* p, const char* end, uint64_t& w) {
    for (; is_digit(p, end); p++) w = w * 10 + (uint64_t)(*p - '0');
    return p;
}

// Read an exponent after its "e"; null if it is missing. Very large ones are cut.
static inline const char* read_exponent(const char* p, const char* end, int64_t& q) {
    const bool negative = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) p++;
    if (!is_digit(p, end)) return nullptr;
    int64_t value = 0;
    for (; is_digit(p, end); p++)
        if (value < 100000) value = value * 10 + (*p - '0');
    q += negative ? -value : value;
    return p;
}

// Whether there are too many digits, not counting leading zeros.
static inline bool too_many(const char* p, const char* end, int64_t digits) {
    for (; digits > 19 && p < end && (*p == '0' || *p == '.'); p++) digits -= *p == '0';
    return digits > 19;
}

// Read the number that begins at p; return its end, or null to leave it to Python. The grammar is
// JSON's, or that of float() without blanks and names.
template <bool JSON>
static inline const char* read_number(const char* p, const char* end, double& value) {
    const bool negative = p < end && *p == '-';
    if (negative || (!JSON && p < end && *p == '+')) p++;
    const char* first = p;
    uint64_t w = 0;
    p = read_digits(p, end, w);
    int64_t digits = p - first, q = 0;
    if (JSON && (digits == 0 || (digits > 1 && *first == '0'))) return nullptr;
    if (p < end && *p == '.') {
        const char* point = ++p;
        p = read_digits(p, end, w);
        q = point - p;
        digits -= q;
        if (JSON && q == 0) return nullptr;
    }
    if (digits == 0 || too_many(first, p, digits)) return nullptr;
    if (p < end && (*p == 'e' || *p == 'E')) p = read_exponent(p + 1, end, q);
    if (p == nullptr) return nullptr;
    if (w == 0) value = 0.0;
    else if (!scale(w, q, value)) return nullptr;
    if (negative) value = -value;
    return p;
}
