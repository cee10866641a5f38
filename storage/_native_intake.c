/* The writer's loop over plain spans, in C: from a CompactSpan's msgpack to a row and a fold.

   Optional: `intake.py` holds the same in Python, and does whatever isn't plain here: a template or a shape that
   is met for the first time, values that JSON has no plain text for, a status message, a clock that jumped, a
   request that errors wait for. Rows come in the order of the payloads, whoever makes them. */

#include "_native.h"

enum { REMOTE_PARENT = 0x200, FIELDS = 10, MOST_KEYS = 128 };

static const int64_t MINUTE = 60000000000LL;
static PyObject *remote_details; /* what a span with a remote parent has in `details` */

/* --- reading msgpack: https://github.com/msgpack/msgpack/blob/master/spec.md ------------------------------------ */

typedef struct {
    const unsigned char *at, *end;
} In;

typedef struct {
    enum { OTHER, TEXT, UNSIGNED, NEGATIVE, FALSE_, TRUE_, NIL } type;
    uint64_t number;           /* a number; for NEGATIVE its two's complement */
    const unsigned char *text; /* `number` bytes */
} Value;

static int
read_big(In *in, int width, uint64_t *value)
{
    if (in->end - in->at < width)
        return 0;
    *value = 0;
    for (int byte = 0; byte < width; byte++)
        *value = *value << 8 | *in->at++;
    return 1;
}

static int
read_text(In *in, uint64_t size, Value *value)
{
    if ((uint64_t)(in->end - in->at) < size)
        return 0;
    value->type = TEXT, value->number = size, value->text = in->at;
    in->at += size;
    return 1;
}

static int
read_negative(In *in, int width, Value *value)
{
    if (!read_big(in, width, &value->number))
        return 0;
    uint64_t sign = 1ULL << (8 * width - 1);
    value->type = value->number & sign ? NEGATIVE : UNSIGNED;
    if (value->number & sign && width < 8)
        value->number |= ~0ULL << 8 * width;
    return 1;
}

/* A text, an integer, a boolean or nil; 0 where it is anything else. */
static int
read_value(In *in, Value *value)
{
    uint64_t size;
    if (in->at == in->end)
        return 0;
    unsigned char tag = *in->at++;
    value->type = UNSIGNED;
    value->number = tag;
    if (tag < 0x80)
        return 1;
    if (tag >= 0xE0) {
        value->type = NEGATIVE, value->number = ~0ULL << 8 | tag;
        return 1;
    }
    if (tag >= 0xA0 && tag < 0xC0)
        return read_text(in, tag & 31, value);
    switch (tag) {
    case 0xC0: value->type = NIL; return 1;
    case 0xC2: value->type = FALSE_; return 1;
    case 0xC3: value->type = TRUE_; return 1;
    case 0xCC: return read_big(in, 1, &value->number);
    case 0xCD: return read_big(in, 2, &value->number);
    case 0xCE: return read_big(in, 4, &value->number);
    case 0xCF: return read_big(in, 8, &value->number);
    case 0xD0: return read_negative(in, 1, value);
    case 0xD1: return read_negative(in, 2, value);
    case 0xD2: return read_negative(in, 4, value);
    case 0xD3: return read_negative(in, 8, value);
    case 0xD9: return read_big(in, 1, &size) && read_text(in, size, value);
    case 0xDA: return read_big(in, 2, &size) && read_text(in, size, value);
    default: return 0;
    }
}

static int
read_unsigned(In *in, uint64_t *number)
{
    Value value;
    int whole = read_value(in, &value) && value.type == UNSIGNED;
    *number = value.number;
    return whole;
}

static int
read_count(In *in, uint64_t *count)
{
    if (in->at == in->end)
        return 0;
    unsigned char tag = *in->at++;
    *count = tag & 15;
    return (tag & 0xF0) == 0x90 || (tag == 0xDC && read_big(in, 2, count));
}

/* --- writing JSON, as msgspec does ------------------------------------------------------------------------------ */

typedef struct {
    size_t size;
    char bytes[16384]; /* own attributes that need more are left to Python */
} Out;

static int
put(Out *out, const void *bytes, size_t size)
{
    if (size > sizeof out->bytes - out->size)
        return 0;
    memcpy(out->bytes + out->size, bytes, size);
    out->size += size;
    return 1;
}

static int
put_escaped(Out *out, unsigned char character)
{
    static const char short_forms[] = "\b\t\n\f\r\"\\", letters[] = "btnfr\"\\", hex[] = "0123456789abcdef";
    const char *form = character ? strchr(short_forms, character) : NULL;
    if (form) {
        char text[2] = {'\\', letters[form - short_forms]};
        return put(out, text, 2);
    }
    char text[6] = {'\\', 'u', '0', '0', hex[character >> 4], hex[character & 15]};
    return put(out, text, 6);
}

static int
put_json_text(Out *out, const unsigned char *text, uint64_t size)
{
    if (!put(out, "\"", 1))
        return 0;
    uint64_t plain = 0;
    for (uint64_t place = 0; place < size; place++)
        if (text[place] < 0x20 || text[place] == '"' || text[place] == '\\') {
            if (!put(out, text + plain, place - plain) || !put_escaped(out, text[place]))
                return 0;
            plain = place + 1;
        }
    return put(out, text + plain, size - plain) && put(out, "\"", 1);
}

static int
put_json_number(Out *out, uint64_t number, int negative)
{
    char digits[20];
    int at = sizeof digits;
    if (negative)
        number = ~number + 1;
    do
        digits[--at] = (char)('0' + number % 10);
    while (number /= 10);
    return (!negative || put(out, "-", 1)) && put(out, digits + at, sizeof digits - (size_t)at);
}

static int
put_json(Out *out, const Value *value)
{
    switch (value->type) {
    case TEXT: return put_json_text(out, value->text, value->number);
    case UNSIGNED: return put_json_number(out, value->number, 0);
    case NEGATIVE: return put_json_number(out, value->number, 1);
    case FALSE_: return put(out, "false", 5);
    case TRUE_: return put(out, "true", 4);
    default: return 0;
    }
}

/* --- a span ----------------------------------------------------------------------------------------------------- */

typedef struct {
    const unsigned char *trace_id;
    uint64_t span_id, parent_id, flags, start, end;
    PyObject *shape; /* (leader, operation, attribute set, status, whether a server's), borrowed */
    PyObject *own;   /* JSON text or None */
} Span;

/* The attributes: those of the span's own as JSON, those that it shares into the key by which its shape is known. */
static int
read_attributes(In *in, PyObject *prefixes, Out *own, Out *key)
{
    uint64_t count;
    Py_ssize_t keys = PyTuple_Size(prefixes);
    if (!read_count(in, &count) || (Py_ssize_t)count != keys || keys > MOST_KEYS)
        return 0;
    for (Py_ssize_t place = 0; place < keys; place++) {
        PyObject *prefix = PyTuple_GetItem(prefixes, place);
        const unsigned char *before = in->at;
        Value value;
        if (!read_value(in, &value))
            return 0;
        if (prefix == Py_None) {
            if (value.type != TEXT && value.type != UNSIGNED && value.type != NEGATIVE)
                return 0;
            if (!put(key, before, (size_t)(in->at - before)))
                return 0;
        } else if (!put(own, own->size ? "," : "{", 1) ||
                   !put(own, PyBytes_AsString(prefix), (size_t)PyBytes_Size(prefix)) || !put_json(own, &value)) {
            return 0;
        }
    }
    return !own->size || put(own, "}", 1);
}

/* Read all of a payload; 0 where it isn't plain. `missing` becomes the key of a shape that isn't known yet. */
static int
read_span(PyObject *payload, PyObject *plans, Span *span, PyObject **missing)
{
    In in = {(const unsigned char *)PyBytes_AsString(payload), NULL};
    in.end = in.at + PyBytes_Size(payload);
    uint64_t fields, template, status;
    Value message;
    if (!read_count(&in, &fields) || fields != FIELDS || in.end - in.at < 18 || in.at[0] != 0xC4 || in.at[1] != 16)
        return 0;
    span->trace_id = in.at + 2;
    in.at += 18;
    if (!(read_unsigned(&in, &span->span_id) && read_unsigned(&in, &span->parent_id) &&
          read_unsigned(&in, &span->flags) && read_unsigned(&in, &template) && read_unsigned(&in, &span->start) &&
          read_unsigned(&in, &span->end) && read_unsigned(&in, &status) && read_value(&in, &message)))
        return 0;
    if (message.type != NIL || status > 2 || span->start > span->end || span->end > INT64_MAX)
        return 0;
    PyObject *number = PyLong_FromUnsignedLongLong(template);
    PyObject *plan = number ? PyDict_GetItemWithError(plans, number) : NULL; /* (prefixes, shapes) */
    Py_XDECREF(number);
    if (!plan)
        return 0;
    Out own, key;
    own.size = key.size = 0;
    unsigned char last = (unsigned char)status;
    if (!read_attributes(&in, PyTuple_GetItem(plan, 0), &own, &key) || in.at != in.end || !put(&key, &last, 1))
        return 0;
    PyObject *known = PyBytes_FromStringAndSize(key.bytes, (Py_ssize_t)key.size);
    if (!known)
        return 0;
    span->shape = PyDict_GetItemWithError(PyTuple_GetItem(plan, 1), known);
    if (!span->shape) {
        *missing = known;
        return 0;
    }
    Py_DECREF(known);
    span->own = own.size ? PyUnicode_DecodeUTF8(own.bytes, (Py_ssize_t)own.size, NULL) : Py_NewRef(Py_None);
    return span->own != NULL;
}

static PyObject *
make_row(const Span *span, PyObject *trace_id)
{
    PyObject *row = PyTuple_New(10);
    if (!row)
        return NULL;
    PyObject *parent = span->parent_id ? PyLong_FromLongLong((long long)span->parent_id) : Py_NewRef(Py_None);
    PyObject *values[10] = {
        Py_NewRef(trace_id), PyLong_FromLongLong((long long)span->span_id), parent,
        Py_NewRef(PyTuple_GetItem(span->shape, 1)), Py_NewRef(PyTuple_GetItem(span->shape, 2)),
        PyLong_FromUnsignedLongLong(span->start), PyLong_FromUnsignedLongLong(span->end - span->start),
        Py_NewRef(PyTuple_GetItem(span->shape, 3)), Py_NewRef(span->own),
        Py_NewRef(span->flags & REMOTE_PARENT ? remote_details : Py_None),
    };
    int whole = 1;
    for (int place = 0; place < 10; place++) {
        whole = values[place] && whole;
        PyTuple_SetItem(row, place, values[place]);
    }
    if (!whole)
        Py_CLEAR(row);
    else
        PyObject_GC_UnTrack(row); /* it can't be part of a cycle, and there are many: the collector need not look */
    return row;
}

static int
add_to_fold(PyObject *folds, PyObject *leader, int64_t minute, PyObject *row)
{
    PyObject *key = Py_BuildValue("(OL)", leader, (long long)minute);
    if (!key)
        return -1;
    PyObject *fold = PyDict_GetItemWithError(folds, key);
    int failed = -1;
    if (fold) {
        failed = PyList_Append(fold, row);
    } else if (!PyErr_Occurred() && (fold = PyList_New(0))) {
        failed = PyList_Append(fold, row) < 0 || PyDict_SetItem(folds, key, fold) < 0 ? -1 : 0;
        Py_DECREF(fold);
    }
    Py_DECREF(key);
    return failed;
}

/* 1: done; 0: not plain; -1: an exception. */
static int
take_one(PyObject *payload, PyObject *plans, PyObject *rows, PyObject *folds, PyObject *recent, PyObject **missing)
{
    Span span;
    if (!PyBytes_CheckExact(payload) || !read_span(payload, plans, &span, missing)) {
        PyErr_Clear(); /* whatever it was, Python's own way meets it again */
        return 0;
    }
    PyObject *trace_id = PyBytes_FromStringAndSize((const char *)span.trace_id, 16), *row = NULL;
    int awaited = trace_id ? 0 : -1, done = -1;
    if (trace_id && PyDict_Size(recent) && PyObject_IsTrue(PyTuple_GetItem(span.shape, 4)))
        awaited = PyDict_Contains(recent, trace_id);
    if (awaited == 1)
        done = 0;
    else if (!awaited && (row = make_row(&span, trace_id)) && PyList_Append(rows, row) == 0)
        done = add_to_fold(folds, PyTuple_GetItem(span.shape, 0), (int64_t)span.end / MINUTE, row) < 0 ? -1 : 1;
    Py_XDECREF(row);
    Py_XDECREF(trace_id);
    Py_DECREF(span.own);
    return done;
}

PyObject *
take_plain(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *payloads, *plans, *rows, *folds, *recent, *missing = NULL;
    Py_ssize_t at;
    if (!PyArg_ParseTuple(args, "O!nO!O!O!O!:take_plain", &PyList_Type, &payloads, &at, &PyDict_Type, &plans,
                          &PyList_Type, &rows, &PyDict_Type, &folds, &PyDict_Type, &recent))
        return NULL;
    if (!remote_details && !(remote_details = PyUnicode_InternFromString("{\"remote\":true}")))
        return NULL;
    int done = 1;
    for (; at >= 0 && at < PyList_Size(payloads); at++)
        if ((done = take_one(PyList_GetItem(payloads, at), plans, rows, folds, recent, &missing)) != 1)
            break;
    if (done < 0) {
        Py_XDECREF(missing);
        return NULL;
    }
    return Py_BuildValue("(nN)", at, missing ? missing : Py_NewRef(Py_None));
}
