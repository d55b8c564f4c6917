// Decodes the points of valid stream entries of one format; all other entries are left to Python.
#pragma once

#include <float.h>

#include "missing.hpp"
#include "numbers.hpp"
#include "redis_reply.hpp"

enum Format { FIELDS = 0, JSON = 1, FLOAT32 = 2, FLOAT64 = 3 };

// Role of a field; in named fields, numbers >= 0 are features.
enum Role { IGNORED = -1, WEIGHT = -2, BLOCK = -3, DIMENSION = -4 };

// The fields of all entries of a chunk. A name is stored as in a reply, "$2\r\nx0\r\n".
struct Names {
    int64_t width;
    const char* texts;
    const int64_t* sizes;
    const int64_t* roles;
};

// The format of all entries of a chunk.
struct Plan {
    Format format;
    Names names;
    int64_t D;
    bool weighted, single, missing;  // missing: a point may have missing values
    Text dimension;
    double limit;
};

struct Out {
    void* X;
    double* w;
    int64_t room, used;  // points
};

static inline bool is_sane(double value, double limit) {
    return value <= limit && value >= -limit;  // false for NaN
}

// A weight is 0, or from 1 / limit to limit.
static inline bool is_weight(double value, double limit) {
    return value == 0 || (value >= 1 / limit && value <= limit);
}

static inline const char* skip_blanks(const char* p, const char* end) {
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) p++;
    return p;
}

// Read n numbers with commas between them and a closing bracket; null for any other text. Where
// values can be missing, null and NaN become NaN.
static inline const char* read_vector(const char* p, const char* end, int64_t n, double* out,
                                      bool missing = false) {
    for (int64_t i = 0; i < n; i++) {
        const char* first = skip_blanks(p, end);
        p = read_number<true>(first, end, out[i]);
        if (p == nullptr && missing) p = read_json_gap(first, end, out[i]);
        if (p == nullptr) return nullptr;
        p = skip_blanks(p, end);
        if (p == end || *p++ != (i + 1 < n ? ',' : ']')) return nullptr;
    }
    return p;
}

template <typename T>
static inline bool all_sane(const T* values, int64_t n, double limit) {
    bool sane = true;
    for (int64_t i = 0; i < n; i++) sane &= is_sane(values[i], limit);
    return sane;
}

// Whether points can be learned. Each missing value gets the same bits.
template <typename T>
static inline bool is_good(T* values, int64_t n, const Plan& plan) {
    if (all_sane(values, n * plan.D, plan.limit)) return true;
    return plan.missing && are_partly_sane(values, n, plan.D, plan.limit);
}

static inline const char* read_point(const char* p, const char* end, const Plan& plan, Out& out) {
    if (out.used == out.room) return nullptr;
    double* row = (double*)out.X + out.used++ * plan.D;
    p = read_vector(p, end, plan.D, row, plan.missing);
    return p && is_good(row, 1, plan) ? p : nullptr;
}

// Read a vector, or a list of vectors.
static inline bool read_json(Text text, const Plan& plan, Out& out) {
    const char *p = text.at, *end = text.at + text.size;
    p = skip_blanks(p, end);
    if (p == end || *p++ != '[') return false;
    p = skip_blanks(p, end);
    if (p < end && *p == '[') {
        bool more = true;
        while (more) {
            p = skip_blanks(p, end);
            if (p == end || *p++ != '[') return false;
            p = read_point(p, end, plan, out);
            if (p == nullptr) return false;
            p = skip_blanks(p, end);
            if (p == end || (*p != ',' && *p != ']')) return false;
            more = *p++ == ',';
        }
    } else {
        p = read_point(p, end, plan, out);
        if (p == nullptr) return false;
    }
    return skip_blanks(p, end) == end;
}

// Read one weight for n points, or a list with one for each.
static inline bool read_json_weights(Text text, const Plan& plan, int64_t n, double* w) {
    const char *p = text.at, *end = text.at + text.size;
    p = skip_blanks(p, end);
    if (p < end && *p == '[') {
        p = read_vector(p + 1, end, n, w);
    } else {
        p = read_number<true>(p, end, w[0]);
        if (p != nullptr)
            for (int64_t i = 1; i < n; i++) w[i] = w[0];
    }
    if (p == nullptr || skip_blanks(p, end) != end) return false;
    bool sane = true;
    for (int64_t i = 0; i < n; i++) sane &= is_weight(w[i], plan.limit);
    return sane;
}

template <typename T>
static inline double raw_at(const char* p, int64_t i) {
    T value;
    memcpy(&value, p + i * (int64_t)sizeof value, sizeof value);
    return (double)value;
}

template <typename T>
static inline bool copy_raw(const char* p, int64_t n, double limit, double* out) {
    int sane = 1;
    for (int64_t i = 0; i < n; i++) {
        const double value = raw_at<T>(p, i);
        sane &= is_sane(value, limit);
        out[i] = value;
    }
    return sane;
}

// The same without a conversion. Magnitudes are compared as integers, which have the same order.
static inline bool copy_singles(const char* p, int64_t n, double limit, float* out) {
    const float most = limit < FLT_MAX ? (float)limit : FLT_MAX;
    int32_t last, odd = 0;
    memcpy(&last, &most, sizeof last);
    for (int64_t i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, p + i * (int64_t)sizeof bits, sizeof bits);
        odd |= (bits & INT32_MAX) > last;
        memcpy(out + i, &bits, sizeof bits);
    }
    return !odd;
}

template <typename T>
static inline bool read_raw(Text text, const Plan& plan, Out& out) {
    const int64_t size = plan.D * (int64_t)sizeof(T), n = text.size / size;
    if (n == 0 || n * size != text.size || n > out.room - out.used) return false;
    const int64_t start = out.used * plan.D;
    out.used += n;
    if (sizeof(T) == 4 && plan.single) {
        float* to = (float*)out.X + start;
        return copy_singles(text.at, n * plan.D, plan.limit, to) ||
               (plan.missing && are_partly_sane(to, n, plan.D, plan.limit));
    }
    double* to = (double*)out.X + start;
    return copy_raw<T>(text.at, n * plan.D, plan.limit, to) ||
           (plan.missing && are_partly_sane(to, n, plan.D, plan.limit));
}

template <typename T>
static inline bool read_raw_weights(Text text, const Plan& plan, int64_t n, double* w) {
    const bool each = text.size == n * (int64_t)sizeof(T);
    if (!each && text.size != (int64_t)sizeof(T)) return false;
    bool sane = true;
    for (int64_t i = 0; i < n; i++) {
        w[i] = raw_at<T>(text.at, each ? i : 0);
        sane &= is_weight(w[i], plan.limit);
    }
    return sane;
}

static inline bool read_block(Text text, const Plan& plan, Out& out) {
    if (plan.format == JSON) return read_json(text, plan, out);
    return plan.format == FLOAT32 ? read_raw<float>(text, plan, out)
                                  : read_raw<double>(text, plan, out);
}

static inline bool read_weights(Text text, const Plan& plan, int64_t n, double* w) {
    if (plan.format == JSON) return read_json_weights(text, plan, n, w);
    return plan.format == FLOAT32 ? read_raw_weights<float>(text, plan, n, w)
                                  : read_raw_weights<double>(text, plan, n, w);
}

static inline bool read_field(Text text, double limit, double& value) {
    const char* end = text.at + text.size;
    return read_number<false>(text.at, end, value) == end && is_sane(value, limit);
}

// Read the next field, which must have this name.
static inline bool take_value(const char*& p, const char* end, const char* name, int64_t size,
                              Text& value) {
    if (end - p < size || memcmp(p, name, size)) return false;
    p += size;
    return read_text(p, end, value) == WHOLE;
}

static inline bool decode_named(const char* p, const char* end, const Plan& plan, Out& out) {
    if (out.used == out.room) return false;
    double *row = (double*)out.X + out.used * plan.D, weight = 0.0;
    const Names& names = plan.names;
    const char* name = names.texts;
    int64_t gaps = 0;
    for (int64_t i = 0; i < names.width; name += names.sizes[i++]) {
        const int64_t role = names.roles[i];
        Text text = {p, 0};
        if (!take_value(p, end, name, names.sizes[i], text)) {
            if (!plan.missing || role == WEIGHT || text.at != p) return false;
            if (role != IGNORED) row[role] = MISSING, gaps++;
            continue;  // the entry has no such field
        }
        if (role == IGNORED) continue;
        double& to = role == WEIGHT ? weight : row[role];
        if (read_field(text, plan.limit, to)) continue;
        if (!plan.missing || role == WEIGHT || !is_missing(text)) return false;
        to = MISSING, gaps++;
    }
    if (p != end || gaps == plan.D) return false;
    if (plan.weighted) {
        if (!is_weight(weight, plan.limit)) return false;
        out.w[out.used] = weight;
    }
    out.used++;
    return true;
}

static inline bool decode_block(const char* p, const char* end, const Plan& plan, Out& out) {
    Text block = {nullptr, 0}, weights = {nullptr, 0};
    const Names& names = plan.names;
    const char* name = names.texts;
    for (int64_t i = 0; i < names.width; name += names.sizes[i++]) {
        const int64_t role = names.roles[i];
        Text text;
        if (!take_value(p, end, name, names.sizes[i], text)) return false;
        if (role == BLOCK) block = text;
        if (role == WEIGHT) weights = text;
        if (role == DIMENSION && (text.size != plan.dimension.size ||
                                  memcmp(text.at, plan.dimension.at, text.size)))
            return false;
    }
    const int64_t before = out.used;
    if (!read_block(block, plan, out)) return false;
    return !plan.weighted || read_weights(weights, plan, out.used - before, out.w + before);
}

// Decode entries while they are valid and more points are wanted; return the number decoded.
static inline int64_t decode_rows(const EntryRow* rows, int64_t n, const Plan& plan, int64_t wanted,
                                  Out& out, int64_t* counts) {
    for (int64_t i = 0; i < n; i++) {
        if (out.used >= wanted) return i;
        const char *p = (const char*)rows[i].body, *end = p + rows[i].size;
        const int64_t before = out.used;
        const bool any_width = plan.missing && plan.format == FIELDS;
        if ((rows[i].texts != 2 * plan.names.width && !any_width) ||
            !(plan.format == FIELDS ? decode_named(p, end, plan, out)
                                    : decode_block(p, end, plan, out))) {
            out.used = before;
            return i;
        }
        counts[i] = out.used - before;
    }
    return n;
}
