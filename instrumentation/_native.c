/* What RetainingSpanProcessor.on_end does with nearly every span, in C: read the SDK's fields, encode, append.

   Optional: processor.py holds the same in Python, and does whatever isn't plain here: a span with events or
   links, a template that is met for the first time, a value of any other type, a journal that has no room.
   Both make the same bytes: the msgpack array of a CompactSpan, see storage/records.py. Only CPython's
   stable ABI is used, so one build serves 3.11 and later. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum { SAMPLED = 0x1, REMOTE_KNOWN = 0x100, REMOTE_PARENT = 0x200, SPAN_FRAME = 2, DEEPEST = 8 };

/* --- msgpack: https://github.com/msgpack/msgpack/blob/master/spec.md -------------------------------------------- */

typedef struct {
    size_t size;
    unsigned char bytes[8192]; /* a span that needs more is left to the Python way */
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
put_tagged(Out *out, unsigned char tag, uint64_t value, int width)
{
    unsigned char bytes[9] = {tag};
    for (int byte = 0; byte < width; byte++)
        bytes[1 + byte] = (unsigned char)(value >> 8 * (width - 1 - byte));
    return put(out, bytes, 1 + (size_t)width);
}

static int
put_unsigned(Out *out, uint64_t value)
{
    if (value < 0x80)
        return put_tagged(out, (unsigned char)value, 0, 0);
    if (value <= UINT8_MAX)
        return put_tagged(out, 0xCC, value, 1);
    if (value <= UINT16_MAX)
        return put_tagged(out, 0xCD, value, 2);
    if (value <= UINT32_MAX)
        return put_tagged(out, 0xCE, value, 4);
    return put_tagged(out, 0xCF, value, 8);
}

static int
put_signed(Out *out, int64_t value)
{
    if (value >= 0)
        return put_unsigned(out, (uint64_t)value);
    if (value >= -32)
        return put_tagged(out, (unsigned char)value, 0, 0);
    if (value >= INT8_MIN)
        return put_tagged(out, 0xD0, (uint64_t)value, 1);
    if (value >= INT16_MIN)
        return put_tagged(out, 0xD1, (uint64_t)value, 2);
    if (value >= INT32_MIN)
        return put_tagged(out, 0xD2, (uint64_t)value, 4);
    return put_tagged(out, 0xD3, (uint64_t)value, 8);
}

static int
put_text(Out *out, PyObject *text)
{
    Py_ssize_t size;
    const char *bytes = PyUnicode_AsUTF8AndSize(text, &size);
    if (!bytes)
        return 0; /* a lone surrogate */
    int headed = size < 32           ? put_tagged(out, (unsigned char)(0xA0 | size), 0, 0)
                 : size <= UINT8_MAX ? put_tagged(out, 0xD9, (uint64_t)size, 1)
                                     : size <= UINT16_MAX && put_tagged(out, 0xDA, (uint64_t)size, 2);
    return headed && put(out, bytes, (size_t)size);
}

static int
put_count(Out *out, Py_ssize_t count)
{
    return count < 16 ? put_tagged(out, (unsigned char)(0x90 | count), 0, 0)
                      : count <= UINT16_MAX && put_tagged(out, 0xDC, (uint64_t)count, 2);
}

static int
put_int(Out *out, PyObject *number)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(number, &overflow);
    return !overflow && !(value == -1 && PyErr_Occurred()) && put_signed(out, value);
}

static int
put_unsigned_int(Out *out, PyObject *number)
{
    if (!PyLong_Check(number))
        return 0;
    unsigned long long value = PyLong_AsUnsignedLongLong(number);
    return !(value == (unsigned long long)-1 && PyErr_Occurred()) && put_unsigned(out, value);
}

static int
put_float(Out *out, PyObject *number)
{
    double value = PyFloat_AsDouble(number);
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return put_tagged(out, 0xCB, bits, 8);
}

static int
put_value(Out *out, PyObject *value, int depth)
{
    if (PyUnicode_CheckExact(value))
        return put_text(out, value);
    if (PyLong_CheckExact(value))
        return put_int(out, value);
    if (value == Py_True || value == Py_False)
        return put_tagged(out, value == Py_True ? 0xC3 : 0xC2, 0, 0);
    if (PyFloat_CheckExact(value))
        return put_float(out, value);
    if (value == Py_None)
        return put_tagged(out, 0xC0, 0, 0);
    if (!PyTuple_CheckExact(value) || depth == DEEPEST)
        return 0;
    Py_ssize_t count = PyTuple_Size(value);
    int done = put_count(out, count);
    for (Py_ssize_t place = 0; done && place < count; place++)
        done = put_value(out, PyTuple_GetItem(value, place), depth + 1);
    return done;
}

/* A trace id: 16 bytes, big-endian. */
static int
put_trace_id(Out *out, PyObject *number, PyObject *shift)
{
    if (!PyLong_Check(number))
        return 0;
    uint64_t low = PyLong_AsUnsignedLongLongMask(number);
    PyObject *rest = PyNumber_Rshift(number, shift);
    if (!rest)
        return 0;
    uint64_t high = PyLong_AsUnsignedLongLong(rest);
    Py_DECREF(rest);
    if (high == UINT64_MAX && PyErr_Occurred())
        return 0;
    unsigned char bytes[18] = {0xC4, 16};
    for (int byte = 0; byte < 8; byte++) {
        bytes[2 + byte] = (unsigned char)(high >> 8 * (7 - byte));
        bytes[10 + byte] = (unsigned char)(low >> 8 * (7 - byte));
    }
    return put(out, bytes, sizeof bytes);
}

/* --- the SDK's fields ------------------------------------------------------------------------------------------- */

enum Name {
    CONTEXT, PARENT, SCOPE, RESOURCE, ATTRIBUTES, STATUS, EVENTS, LINKS, NAME, KIND, START, END,
    DEQUE, DICT, DROPPED, VALUE, STATUS_CODE, DESCRIPTION, NAMES
};

static const char *const names[NAMES] = {
    "_context", "_parent", "_instrumentation_scope", "_resource", "_attributes", "_status", "_events", "_links",
    "_name", "_kind", "_start_time", "_end_time", "_dq", "_dict", "dropped", "_value_", "_status_code", "_description",
};

typedef struct {
    PyObject_HEAD
    PyObject *append;   /* Tail.append: takes a frame where there is room at once */
    PyObject *origins;  /* dict: id(scope) -> (resource, scope, origin, number, templates) */
    PyObject *no_state; /* the trace state that is empty */
    PyObject *rest;     /* what does everything else, in Python */
    PyObject *shift;    /* 64 */
    PyObject *frame;    /* the frame's type */
    PyObject *names[NAMES];
} Recorder;

/* Fields that are read of one span; every one is a reference of our own. */
typedef struct {
    PyObject *context, *parent, *scope, *resource, *attributes, *status, *name, *kind, *start, *end;
    PyObject *values, *code, *description;
} Fields;

static void
release(Fields *fields)
{
    for (PyObject **field = (PyObject **)fields; field < (PyObject **)(fields + 1); field++)
        Py_XDECREF(*field);
}

static PyObject *
get(Recorder *self, PyObject *object, enum Name name)
{
    return PyObject_GetAttr(object, self->names[name]);
}

/* The attribute of an attribute, or NULL. */
static PyObject *
get_of(Recorder *self, PyObject *object, enum Name name, enum Name inner)
{
    PyObject *holder = get(self, object, name);
    PyObject *found = holder ? get(self, holder, inner) : NULL;
    Py_XDECREF(holder);
    return found;
}

static int
is_empty(Recorder *self, PyObject *span, enum Name name)
{
    PyObject *deque = get_of(self, span, name, DEQUE);
    int empty = deque && PyObject_Size(deque) == 0;
    Py_XDECREF(deque);
    return empty;
}

static int
read_fields(Recorder *self, PyObject *span, Fields *fields)
{
    return (fields->context = get(self, span, CONTEXT)) && (fields->parent = get(self, span, PARENT)) &&
           (fields->scope = get(self, span, SCOPE)) && (fields->resource = get(self, span, RESOURCE)) &&
           (fields->attributes = get(self, span, ATTRIBUTES)) && (fields->status = get(self, span, STATUS)) &&
           (fields->name = get(self, span, NAME)) && (fields->start = get(self, span, START)) &&
           (fields->end = get(self, span, END)) && (fields->kind = get_of(self, span, KIND, VALUE)) &&
           (fields->values = get(self, fields->attributes, DICT)) &&
           (fields->code = get_of(self, fields->status, STATUS_CODE, VALUE)) &&
           (fields->description = get(self, fields->status, DESCRIPTION));
}

/* Whether there is nothing about the span that a CompactSpan can't say. */
static int
is_plain(Recorder *self, PyObject *span, Fields *fields)
{
    if (!PyUnicode_CheckExact(fields->name) || !PyDict_CheckExact(fields->values) || !PyTuple_Check(fields->context) ||
        PyTuple_Size(fields->context) < 5 || PyTuple_GetItem(fields->context, 4) != self->no_state ||
        (fields->parent != Py_None && (!PyTuple_Check(fields->parent) || PyTuple_Size(fields->parent) < 3)))
        return 0;
    PyObject *dropped = get(self, fields->attributes, DROPPED);
    int whole = dropped && PyObject_IsTrue(dropped) == 0;
    Py_XDECREF(dropped);
    return whole && is_empty(self, span, EVENTS) && is_empty(self, span, LINKS);
}

/* The number of the template of spans like this one, or NULL where it isn't known yet. */
static PyObject *
find_template(Recorder *self, Fields *fields)
{
    PyObject *id = PyLong_FromVoidPtr(fields->scope);
    PyObject *known = id ? PyDict_GetItemWithError(self->origins, id) : NULL;
    Py_XDECREF(id);
    if (!known || !PyTuple_Check(known) || PyTuple_Size(known) < 5 ||
        PyTuple_GetItem(known, 0) != fields->resource || PyTuple_GetItem(known, 1) != fields->scope)
        return NULL;
    PyObject *templates = Py_NewRef(PyTuple_GetItem(known, 4)); /* ours: making a tuple may collect garbage */
    PyObject *key = PyTuple_New(2 + PyDict_Size(fields->values));
    if (!key) {
        Py_DECREF(templates);
        return NULL;
    }
    PyObject *attribute, *value;
    Py_ssize_t position = 0, place = 2;
    PyTuple_SetItem(key, 0, Py_NewRef(fields->name));
    PyTuple_SetItem(key, 1, Py_NewRef(fields->kind));
    while (PyDict_Next(fields->values, &position, &attribute, &value))
        PyTuple_SetItem(key, place++, Py_NewRef(attribute));
    PyObject *found = PyDict_GetItemWithError(templates, key);
    Py_XINCREF(found);
    Py_DECREF(key);
    Py_DECREF(templates);
    return found;
}

static int
encode(Recorder *self, Fields *fields, long flags, PyObject *template, Out *out)
{
    uint64_t parent_id = 0;
    flags |= REMOTE_KNOWN;
    if (fields->parent != Py_None) {
        PyObject *number = PyTuple_GetItem(fields->parent, 1);
        if (!PyLong_Check(number))
            return 0;
        parent_id = PyLong_AsUnsignedLongLong(number);
        if (parent_id == UINT64_MAX && PyErr_Occurred())
            return 0;
        if (PyObject_IsTrue(PyTuple_GetItem(fields->parent, 2)))
            flags |= REMOTE_PARENT;
    }
    if (!(put_count(out, 10) && put_trace_id(out, PyTuple_GetItem(fields->context, 0), self->shift) &&
          put_unsigned_int(out, PyTuple_GetItem(fields->context, 1)) && put_unsigned(out, parent_id) &&
          put_signed(out, flags) && put_value(out, template, 0) && put_value(out, fields->start, 0) &&
          put_value(out, fields->end, 0) && put_value(out, fields->code, 0)))
        return 0;
    int described = PyUnicode_CheckExact(fields->description) && PyObject_Size(fields->description) > 0;
    if (!described && PyObject_IsTrue(fields->description))
        return 0;
    if (!put_value(out, described ? fields->description : Py_None, 0) || !put_count(out, PyDict_Size(fields->values)))
        return 0;
    PyObject *attribute, *value;
    Py_ssize_t position = 0;
    while (PyDict_Next(fields->values, &position, &attribute, &value))
        if (!put_value(out, value, 0))
            return 0;
    return 1;
}

/* Whether the span is done with: journaled, or not sampled. No exception is set. */
static int
record(Recorder *self, PyObject *span)
{
    Fields fields = {0};
    Out out;
    int done = 0;
    out.size = 0;
    if (read_fields(self, span, &fields) && is_plain(self, span, &fields)) {
        long flags = PyLong_AsLong(PyTuple_GetItem(fields.context, 3));
        PyObject *template = NULL;
        if (flags >= 0 && !(flags & SAMPLED)) {
            done = 1;
        } else if (flags >= 0 && (template = find_template(self, &fields)) && PyObject_IsTrue(template) &&
                   encode(self, &fields, flags, template, &out)) {
            PyObject *payload = PyBytes_FromStringAndSize((const char *)out.bytes, (Py_ssize_t)out.size);
            PyObject *taken = payload ? PyObject_CallFunctionObjArgs(self->append, self->frame, payload, template, NULL)
                                      : NULL;
            done = taken == Py_True;
            Py_XDECREF(taken);
            Py_XDECREF(payload);
        }
        Py_XDECREF(template);
    }
    release(&fields);
    if (PyErr_Occurred())
        PyErr_Clear();
    return done;
}

static PyObject *
recorder_on_end(Recorder *self, PyObject *span)
{
    if (record(self, span))
        Py_RETURN_NONE;
    return PyObject_CallFunctionObjArgs(self->rest, span, NULL);
}

/* --- the type --------------------------------------------------------------------------------------------------- */

static int
recorder_traverse(Recorder *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->append);
    Py_VISIT(self->origins);
    Py_VISIT(self->no_state);
    Py_VISIT(self->rest);
    return 0;
}

static int
recorder_clear(Recorder *self)
{
    Py_CLEAR(self->append);
    Py_CLEAR(self->origins);
    Py_CLEAR(self->no_state);
    Py_CLEAR(self->rest);
    return 0;
}

static void
recorder_dealloc(Recorder *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    recorder_clear(self);
    Py_CLEAR(self->shift);
    Py_CLEAR(self->frame);
    for (int name = 0; name < NAMES; name++)
        Py_CLEAR(self->names[name]);
    freefunc release_memory = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release_memory(self);
    Py_DECREF(type);
}

static PyObject *
recorder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"append", "origins", "no_state", "rest", NULL};
    PyObject *append, *origins, *no_state, *rest;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!OO:Recorder", keywords, &append, &PyDict_Type, &origins,
                                     &no_state, &rest))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Recorder *self = (Recorder *)allocate(type, 0);
    if (!self)
        return NULL;
    self->append = Py_NewRef(append);
    self->origins = Py_NewRef(origins);
    self->no_state = Py_NewRef(no_state);
    self->rest = Py_NewRef(rest);
    self->shift = PyLong_FromLong(64);
    self->frame = PyLong_FromLong(SPAN_FRAME);
    int whole = self->shift && self->frame;
    for (int name = 0; name < NAMES; name++)
        whole = (self->names[name] = PyUnicode_InternFromString(names[name])) && whole;
    if (!whole) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyMethodDef recorder_methods[] = {
    {"on_end", (PyCFunction)recorder_on_end, METH_O, "Journal a finished span. Never raises, never waits."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot recorder_slots[] = {
    {Py_tp_new, recorder_new},
    {Py_tp_dealloc, recorder_dealloc},
    {Py_tp_traverse, recorder_traverse},
    {Py_tp_clear, recorder_clear},
    {Py_tp_methods, recorder_methods},
    {Py_tp_doc, "See processor.py."},
    {0, NULL},
};

static PyType_Spec recorder_spec = {
    "tracekeep.instrumentation._native.Recorder", sizeof(Recorder), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    recorder_slots,
};

static int
module_exec(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&recorder_spec);
    if (!type)
        return -1;
    int failed = PyModule_AddObjectRef(module, "Recorder", type);
    Py_DECREF(type);
    return failed;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT, "_native", "The recording path in C.", 0, NULL, module_slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&module_definition);
}
