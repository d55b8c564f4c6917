// Functions for Python: replies of stream reads, their points, and codes; compiled once.

#include "write_codes.hpp"

#define EXPORT(type) extern "C" __attribute__((visibility("default"))) type

// Continue with a reply of which `size` bytes have arrived. Returns the state of the scan.
EXPORT(int64_t)
scan_reply(Scan* scan, const char* data, int64_t size, StreamRow* streams, int64_t stream_room,
           EntryRow* entries, int64_t entry_room) {
    Tables out = {streams, stream_room, entries, entry_room};
    return scan_reply(*scan, data, size, out);
}

// Decode the first valid entries, up to `wanted` points. Returns the number of entries, and in `used`
// the number of their points.
EXPORT(int64_t)
decode_entries(const EntryRow* rows, int64_t n, int format, int64_t width, const char* names,
               const int64_t* name_sizes, const int64_t* roles, int64_t D, int weighted, int single,
               int missing, const char* dimension, double limit, int64_t wanted, int64_t room, void* X,
               double* w, int64_t* counts, int64_t* used) {
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    if (format == FLOAT32 || format == FLOAT64) return 0;
#endif
    const Text text = {dimension, (int64_t)strlen(dimension)};
    const Names fields = {width, names, name_sizes, roles};
    const Plan plan = {(Format)format, fields, D, weighted != 0, single != 0, missing != 0, text,
                       limit};
    Out out = {X, w, room, 0};
    const int64_t taken = decode_rows(rows, n, plan, wanted, out, counts);
    *used = out.used;
    return taken;
}

// Find the texts of entries: position and size of each, alternating. Returns the count of these
// numbers, or -1 if the entries differ from the rows or `room` is too small.
EXPORT(int64_t)
cut_texts(const EntryRow* rows, int64_t n, int64_t* spans, int64_t room) {
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++) {
        const char *p = (const char*)rows[i].body, *end = p + rows[i].size;
        for (int64_t k = 0; k < rows[i].texts; k++) {
            Text text;
            if (found + 2 > room || read_text(p, end, text) != WHOLE) return -1;
            spans[found++] = (int64_t)text.at;
            spans[found++] = text.size;
        }
    }
    return found;
}

// Write the codes of entries with one point each as MessagePack texts; see write_codes.hpp.
EXPORT(int64_t)
write_codes(const EntryRow* rows, int64_t n, int64_t width, const char* names,
            const int64_t* name_sizes, const int64_t* roles, const int32_t* codes,
            const double* numbers, int64_t columns, const char* version, char* out, int64_t room) {
    const Text text = {version, (int64_t)strlen(version)};
    const Names fields = {width, names, name_sizes, roles};
    return write_codes(rows, n, fields, codes, numbers, columns, text, out, room);
}

// Copy the names of an entry's fields in the format of the reply, "$2\r\nx0\r\n". Returns the number
// of bytes, or -1 if the entry differs from the row or `room` is too small.
EXPORT(int64_t) cut_names(const EntryRow* row, char* out, int64_t room) {
    const char *p = (const char*)row->body, *end = p + row->size;
    char* to = out;
    for (int64_t k = 0; k < row->texts; k++) {
        const char* from = p;
        Text text;
        if (read_text(p, end, text) != WHOLE) return -1;
        if (k % 2) continue;
        if (p - from > out + room - to) return -1;
        to = write_bytes(to, from, p - from);
    }
    return to - out;
}
