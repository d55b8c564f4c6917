// Writes the VQ codes of entries with one point each, as MessagePack texts: IDs, codes and labels.
#pragma once

#include <float.h>

#include <charconv>

#include "decoding.hpp"

// Role of a field whose value is repeated beside the codes.
enum Repeated { LABEL = 1 };

static inline char* write_bytes(char* to, const char* from, int64_t size) {
    memcpy(to, from, size);
    return to + size;
}

static inline char* write_integer(char* to, uint64_t value) {
    char digits[20];
    int64_t n = 0;
    do digits[n++] = (char)('0' + value % 10);
    while (value /= 10);
    while (n > 0) *to++ = digits[--n];
    return to;
}

static inline char* write_text(char* to, const char* text, int64_t size) {
    if (size < 32) {
        *to++ = (char)(0xa0 | size);
    } else {
        *to++ = (char)0xdb;
        for (int shift = 24; shift >= 0; shift -= 8) *to++ = (char)(size >> shift);
    }
    return write_bytes(to, text, size);
}

static inline char* write_code(char* to, int32_t code) {
    char text[12], *end = text;
    if (code < 0) *end++ = '-';
    end = write_integer(end, code < 0 ? 0 - (uint64_t)code : (uint64_t)code);
    return write_text(to, text, end - text);
}

static inline char* write_id(char* to, const EntryRow& row) {
    char text[41], *end = write_integer(text, row.milliseconds);
    *end++ = '-';
    end = write_integer(end, row.sequence);
    return write_text(to, text, end - text);
}

#if defined(__cpp_lib_to_chars) && __cpp_lib_to_chars >= 201611L
static const bool CAN_WRITE_NUMBERS = true;

// The shortest text of a finite number >= 0, the same as Python's repr().
static inline char* repr(char* to, double value) {
    char text[32];
    char* end = std::to_chars(text, text + sizeof text, value, std::chars_format::scientific).ptr;
    const char* e = (const char*)memchr(text, 'e', end - text);
    char digits[20] = {text[0]};
    int64_t n = 1, exponent = 0;
    for (const char* p = text + 2; p < e; p++) digits[n++] = *p;
    for (const char* p = e + 2; p < end; p++) exponent = exponent * 10 + (*p - '0');
    if (e[1] == '-') exponent = -exponent;
    if (exponent < -4 || exponent >= 16) return write_bytes(to, text, end - text);
    int64_t written = 0;
    if (exponent < 0) {
        to = write_bytes(to, "0.000", 1 - exponent);
        return write_bytes(to, digits, n);
    }
    for (; written <= exponent; written++) *to++ = written < n ? digits[written] : '0';
    *to++ = '.';
    if (written >= n) *to++ = '0';
    return written < n ? write_bytes(to, digits + written, n - written) : to;
}
#else
static const bool CAN_WRITE_NUMBERS = false;

static inline char* repr(char* to, double) { return to; }
#endif

// Whether a number is finite, so that its text has no letters but an exponent.
static inline bool is_finite(double value) { return value >= -DBL_MAX && value <= DBL_MAX; }

static inline char* write_number(char* to, double value) {
    char text[33], *begin = text;
    if (__builtin_signbit(value)) *begin++ = '-';
    return write_text(to, text, repr(begin, __builtin_fabs(value)) - text);
}

// Write the labels of an entry; null if its fields differ from `names`.
static inline char* write_labels(char* to, const EntryRow& row, const Names& names) {
    if (row.texts != 2 * names.width) return nullptr;
    const char *p = (const char*)row.body, *end = p + row.size, *name = names.texts;
    for (int64_t i = 0; i < names.width; name += names.sizes[i++]) {
        Text text;
        if (!take_value(p, end, name, names.sizes[i], text)) return nullptr;
        if (names.roles[i] == LABEL) to = write_text(to, text.at, text.size);
    }
    return to;
}

// Largest size of a number's text, with its header.
static const int64_t NUMBER_MOST = 1 + 32;

// Largest size of an entry's ID and code, with the header of each text.
static const int64_t NUMBERS_MOST = (5 + 41) + (1 + 11);

// Largest size of an entry without the numbers after the code and the version's text. A label takes
// fewer bytes here than in the entry, where its text has at least 6 bytes around it.
static inline int64_t most_of(const EntryRow& row) { return NUMBERS_MOST + 5 + row.size; }

// Write each entry's ID, code, numbers, version and labels into `room` bytes. `numbers` has `columns`
// arrays of n numbers, one after another: the distances, then scores. Returns the number of bytes,
// -1 to leave the entries to Python (if an entry has other fields, for example), or -2 if `room` may
// be too small.
static inline int64_t write_codes(const EntryRow* rows, int64_t n, const Names& names,
                                  const int32_t* codes, const double* numbers, int64_t columns,
                                  Text version, char* out, int64_t room) {
    if (!CAN_WRITE_NUMBERS) return -1;
    char *to = out, *const end = out + room;
    for (int64_t i = 0; i < n && to != nullptr; i++) {
        if (end - to - most_of(rows[i]) - columns * NUMBER_MOST < version.size) return -2;
        to = write_code(write_id(to, rows[i]), codes[i]);
        for (int64_t column = 0; column < columns; column++) {
            const double value = numbers[column * n + i];
            if (!is_finite(value)) return -1;
            to = write_number(to, value);
        }
        to = write_labels(write_text(to, version.at, version.size), rows[i], names);
    }
    return to == nullptr ? -1 : to - out;
}
