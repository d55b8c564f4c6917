// Parses replies of a Redis server (RESP2) to XREAD and XREADGROUP: the end, and the entries.
#pragma once

#include <stdint.h>
#include <string.h>

enum Found { PART = 0, WHOLE = 1, ODD = 2, NO_ROOM = 3, OTHER = 4 };

struct Text {
    const char* at;
    int64_t size;
};

// Read "<kind><number>\r\n"; -1 is allowed. `at` advances only if all bytes are there.
static inline Found read_header(const char*& at, const char* end, char kind, int64_t& number) {
    const char* p = at;
    if (p == end) return PART;
    if (*p++ != kind) return ODD;
    if (end - p >= 4 && p[0] == '-') {
        if (memcmp(p, "-1\r\n", 4)) return ODD;
        number = -1;
        at = p + 4;
        return WHOLE;
    }
    const char* first = p;
    int64_t value = 0;
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        if (p - first == 18) return ODD;
        value = value * 10 + (*p - '0');
    }
    if (p == end) return PART;
    if (*p == '-' && p == first) return PART;
    if (p == first || *p != '\r' || (*first == '0' && p - first > 1)) return ODD;
    if (end - p < 2) return PART;
    if (p[1] != '\n') return ODD;
    number = value;
    at = p + 2;
    return WHOLE;
}

static inline Found read_text(const char*& at, const char* end, Text& text) {
    const char* p = at;
    int64_t size = 0;
    const Found found = read_header(p, end, '$', size);
    if (found != WHOLE) return found;
    if (size < 0) return ODD;
    if (size > end - p - 2) return PART;
    if (p[size] != '\r' || p[size + 1] != '\n') return ODD;
    text = {p, size};
    at = p + size + 2;
    return WHOLE;
}

static inline Found read_pair(const char*& at, const char* end, Text& text, int64_t& count) {
    const char* p = at;
    int64_t two = 0;
    Found found = read_header(p, end, '*', two);
    if (found == WHOLE) found = two == 2 ? read_text(p, end, text) : ODD;
    if (found == WHOLE) found = read_header(p, end, '*', count);
    if (found == WHOLE) at = p;
    return found;
}

// Read one part of an ID in the server's format.
static inline bool read_id_part(const char*& p, const char* end, uint64_t& value) {
    const char* first = p;
    value = 0;
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        const uint64_t digit = *p - '0';
        if (value > (UINT64_MAX - digit) / 10) return false;
        value = value * 10 + digit;
    }
    return p - first == 1 || (p > first && *first != '0');
}

static inline bool read_id(Text id, uint64_t& milliseconds, uint64_t& sequence) {
    const char *p = id.at, *end = id.at + id.size;
    if (!read_id_part(p, end, milliseconds) || p == end || *p++ != '-') return false;
    return read_id_part(p, end, sequence) && p == end;
}

// Position of a scan. The numbers of remaining array members count down to 0; `others` is the number
// for a reply of another kind.
struct Scan {
    int64_t begun, at, others, streams, entries, texts, n_streams, n_entries;
};

// The layout for Python: positions are relative to the start of the reply.
struct StreamRow {
    int64_t name, name_size, first;
};

struct EntryRow {
    uint64_t milliseconds, sequence;
    int64_t body, size, texts;  // -1 texts: a deleted entry
};

struct Tables {
    StreamRow* streams;
    int64_t stream_room;
    EntryRow* entries;
    int64_t entry_room;
};

static inline Found scan_stream(Scan& scan, const char* data, const char*& p, const char* end,
                                Tables& out) {
    if (scan.n_streams == out.stream_room) return NO_ROOM;
    Text name;
    int64_t count = 0;
    const Found found = read_pair(p, end, name, count);
    if (found != WHOLE) return found;
    if (count < 0) return ODD;
    out.streams[scan.n_streams++] = {name.at - data, name.size, scan.n_entries};
    scan.streams--;
    scan.entries = count;
    return WHOLE;
}

static inline Found scan_entry(Scan& scan, const char* data, const char*& p, const char* end,
                               Tables& out) {
    if (scan.n_entries == out.entry_room) return NO_ROOM;
    Text id;
    int64_t texts = 0;
    const Found found = read_pair(p, end, id, texts);
    if (found != WHOLE) return found;
    EntryRow& row = out.entries[scan.n_entries];
    if (!read_id(id, row.milliseconds, row.sequence) || (texts > 0 && texts % 2)) return ODD;
    row.body = p - data;
    row.size = 0;
    row.texts = texts;
    scan.n_entries++;
    scan.entries--;
    scan.texts = texts < 0 ? 0 : texts;
    return WHOLE;
}

static inline Found scan_texts(Scan& scan, const char* data, const char*& p, const char* end,
                               Tables& out) {
    Text text;
    Found found = WHOLE;
    while (scan.texts && found == WHOLE) {
        found = read_text(p, end, text);
        if (found == WHOLE) scan.texts--;
    }
    EntryRow& row = out.entries[scan.n_entries - 1];
    row.size = p - data - row.body;
    return found;
}

static inline Found skip_line(const char*& at, const char* end) {
    for (const char* p = at; p < end; p++) {
        p = (const char*)memchr(p, '\n', end - p);
        if (p == nullptr) return PART;
        if (p[-1] != '\r') continue;
        at = p + 1;
        return WHOLE;
    }
    return PART;
}

// Skip a text, a line, or the head of an array; the members of an array follow.
static inline Found skip_one(const char*& at, const char* end, int64_t& others) {
    if (at == end) return PART;
    if (*at == '+' || *at == '-' || *at == ':') return skip_line(at, end);
    if (*at != '$' && *at != '*') return ODD;
    const char* p = at;
    int64_t number = 0;
    const Found found = read_header(p, end, *at, number);
    if (found != WHOLE) return found;
    if (*at == '*') {
        others += number > 0 ? number : 0;
        if (others > (int64_t)1 << 60) return ODD;
    } else if (number >= 0) {
        Text text;
        return read_text(at, end, text);
    }
    at = p;
    return WHOLE;
}

static inline Found skip_reply(Scan& scan, const char* data, const char* end) {
    const char* p = data + scan.at;
    Found found = WHOLE;
    while (scan.others && found == WHOLE) {
        found = skip_one(p, end, scan.others);
        if (found == WHOLE) scan.others--;
        scan.at = p - data;
    }
    return found == WHOLE ? OTHER : found;
}

static inline Found scan_streams(Scan& scan, const char* data, int64_t size, Tables& out) {
    const char *p = data + scan.at, *end = data + size;
    Found found = WHOLE;
    if (!scan.begun) {
        found = read_header(p, end, '*', scan.streams);
        if (found == WHOLE && scan.streams < 1) found = ODD;
        scan.begun = found == WHOLE;
    }
    while (found == WHOLE && (scan.texts || scan.entries || scan.streams))
        found = scan.texts     ? scan_texts(scan, data, p, end, out)
                : scan.entries ? scan_entry(scan, data, p, end, out)
                               : scan_stream(scan, data, p, end, out);
    scan.at = p - data;
    return found;
}

// Continue with a reply of which `size` bytes have arrived. OTHER: the end of a reply of another
// kind. ODD: not a reply.
static inline Found scan_reply(Scan& scan, const char* data, int64_t size, Tables& out) {
    if (!scan.others) {
        const Found found = scan_streams(scan, data, size, out);
        if (found != ODD) return found;
        scan = Scan();
        scan.others = 1;
    }
    return skip_reply(scan, data, data + size);
}
