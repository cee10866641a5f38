/* The loops of storage that every record passes, in C: appending a frame, and finding frames; see also
   _native_intake.c.

   Optional: `tail.py` and `frames.py` hold the same in Python, which serves wherever this isn't built, and
   which the tests compare it with. Only CPython's stable ABI is used, so one build serves 3.11 and later.
   The interpreter's lock is what makes `Tail.append` atomic: nothing in it runs Python code or gives the
   lock away. Layout of a frame: see frames.py. */

#include "_native.h"
#include <structmember.h>

enum { HEADER = 20, MAX_PAYLOAD = 1 << 20, MAGIC = 0x0154 };

/* --- CRC-32 as zlib computes it (IEEE 802.3, reflected), eight bytes at a time ("slicing by 8") ------------- */

static uint32_t crc_table[8][256];

static void
make_crc_table(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1u)));
        crc_table[0][byte] = crc;
    }
    for (int slice = 1; slice < 8; slice++)
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint32_t before = crc_table[slice - 1][byte];
            crc_table[slice][byte] = (before >> 8) ^ crc_table[0][before & 0xFF];
        }
}

static uint32_t
load32(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t
load64(const unsigned char *at)
{
    return (uint64_t)load32(at) | (uint64_t)load32(at + 4) << 32;
}

static uint32_t
crc_more(uint32_t crc, const unsigned char *data, size_t size)
{
    for (; size >= 8; size -= 8, data += 8) {
        uint32_t low = crc ^ load32(data), high = load32(data + 4);
        crc = crc_table[7][low & 0xFF] ^ crc_table[6][(low >> 8) & 0xFF] ^ crc_table[5][(low >> 16) & 0xFF] ^
              crc_table[4][low >> 24] ^ crc_table[3][high & 0xFF] ^ crc_table[2][(high >> 8) & 0xFF] ^
              crc_table[1][(high >> 16) & 0xFF] ^ crc_table[0][high >> 24];
    }
    for (; size; size--, data++)
        crc = (crc >> 8) ^ crc_table[0][(crc ^ *data) & 0xFF];
    return crc;
}

static void
store_header(unsigned char *head, unsigned char type, uint32_t length, uint64_t sequence)
{
    head[4] = MAGIC & 0xFF, head[5] = MAGIC >> 8, head[6] = type, head[7] = 0;
    for (int byte = 0; byte < 4; byte++)
        head[8 + byte] = (unsigned char)(length >> 8 * byte);
    for (int byte = 0; byte < 8; byte++)
        head[12 + byte] = (unsigned char)(sequence >> 8 * byte);
}

/* --- Tail ------------------------------------------------------------------------------------------------------ */

typedef struct {
    PyObject_HEAD
    PyObject *defined; /* set: numbers of the definitions that the segment holds */
    PyObject *lock;    /* of the slow way; kept for it, never taken here */
    Py_buffer view;
    char attached;
    char busy;
    Py_ssize_t offset;
    Py_ssize_t limit;
    unsigned long long sequence;
} Tail;

static void
tail_release(Tail *self)
{
    if (self->attached) {
        self->attached = 0;
        PyBuffer_Release(&self->view);
    }
    self->limit = 0;
}

static PyObject *
tail_reset(Tail *self, PyObject *lock)
{
    PyObject *fresh = PySet_New(NULL);
    if (!fresh)
        return NULL;
    tail_release(self);
    PyObject *old_lock = self->lock, *old_defined = self->defined;
    Py_INCREF(lock);
    self->lock = lock;
    self->defined = fresh;
    Py_XDECREF(old_lock);
    Py_XDECREF(old_defined);
    self->busy = 0;
    self->offset = 0;
    self->sequence = 0;
    Py_RETURN_NONE;
}

static PyObject *
tail_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"lock", NULL};
    PyObject *lock;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Tail", names, &lock))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Tail *self = (Tail *)allocate(type, 0);
    if (!self)
        return NULL;
    PyObject *done = tail_reset(self, lock);
    if (!done) {
        Py_DECREF(self);
        return NULL;
    }
    Py_DECREF(done);
    return (PyObject *)self;
}

static void
tail_dealloc(Tail *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    tail_release(self);
    Py_XDECREF(self->defined);
    Py_XDECREF(self->lock);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyObject *
tail_use(Tail *self, PyObject *args)
{
    PyObject *buffer;
    Py_ssize_t offset;
    if (!PyArg_ParseTuple(args, "On:use", &buffer, &offset))
        return NULL;
    tail_release(self);
    self->offset = offset;
    if (buffer != Py_None) {
        if (PyObject_GetBuffer(buffer, &self->view, PyBUF_WRITABLE) < 0)
            return NULL;
        self->attached = 1;
    }
    if (PySet_Clear(self->defined) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
tail_append(Tail *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "append takes a type, a payload and a definition's number");
        return NULL;
    }
    if (self->busy || !self->attached || !PyBytes_CheckExact(args[1]))
        Py_RETURN_FALSE;
    long type = PyLong_AsLong(args[0]);
    if (type == -1 && PyErr_Occurred())
        return NULL;
    Py_ssize_t size = PyBytes_Size(args[1]), at = self->offset, end = at + HEADER + size;
    if (at < 0 || size < 1 || size > MAX_PAYLOAD || end > self->limit || end > self->view.len)
        Py_RETURN_FALSE;
    if (PyObject_IsTrue(args[2])) {
        int known = PySet_Contains(self->defined, args[2]);
        if (known < 0)
            return NULL;
        if (!known)
            Py_RETURN_FALSE;
    }
    unsigned char *frame = (unsigned char *)self->view.buf + at;
    const unsigned char *payload = (const unsigned char *)PyBytes_AsString(args[1]);
    unsigned char head[HEADER];
    self->sequence += 1;
    store_header(head, (unsigned char)type, (uint32_t)size, self->sequence);
    uint32_t crc = ~crc_more(crc_more(0xFFFFFFFFu, head + 4, HEADER - 4), payload, (size_t)size);
    for (int byte = 0; byte < 4; byte++)
        head[byte] = (unsigned char)(crc >> 8 * byte);
    memcpy(frame, head, HEADER);
    memcpy(frame + HEADER, payload, (size_t)size);
    self->offset = end;
    Py_RETURN_TRUE;
}

static PyObject *
tail_take_sequence(Tail *self, PyObject *Py_UNUSED(ignored))
{
    self->sequence += 1;
    return PyLong_FromUnsignedLongLong(self->sequence);
}

static PyMethodDef tail_methods[] = {
    {"append", (PyCFunction)(void (*)(void))tail_append, METH_FASTCALL, NULL},
    {"use", (PyCFunction)tail_use, METH_VARARGS, NULL},
    {"reset", (PyCFunction)tail_reset, METH_O, NULL},
    {"take_sequence", (PyCFunction)tail_take_sequence, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef tail_members[] = {
    {"lock", T_OBJECT_EX, offsetof(Tail, lock), READONLY, NULL},
    {"defined", T_OBJECT_EX, offsetof(Tail, defined), READONLY, NULL},
    {"busy", T_BOOL, offsetof(Tail, busy), 0, NULL},
    {"offset", T_PYSSIZET, offsetof(Tail, offset), 0, NULL},
    {"limit", T_PYSSIZET, offsetof(Tail, limit), 0, NULL},
    {"sequence", T_ULONGLONG, offsetof(Tail, sequence), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot tail_slots[] = {
    {Py_tp_new, tail_new},
    {Py_tp_dealloc, tail_dealloc},
    {Py_tp_methods, tail_methods},
    {Py_tp_members, tail_members},
    {Py_tp_doc, "See tail.py."},
    {0, NULL},
};

static PyType_Spec tail_spec = {"tracekeep.storage._native.Tail", sizeof(Tail), 0, Py_TPFLAGS_DEFAULT, tail_slots};

/* --- scan ------------------------------------------------------------------------------------------------------ */

static PyObject *
record(const unsigned char *frame, uint32_t length)
{
    PyObject *made = PyTuple_New(3);
    if (!made)
        return NULL;
    PyObject *parts[3] = {PyLong_FromLong(frame[6]), PyLong_FromUnsignedLongLong(load64(frame + 12)),
                          PyBytes_FromStringAndSize((const char *)frame + HEADER, length)};
    int failed = 0;
    for (int place = 0; place < 3; place++) {
        failed |= !parts[place];
        PyTuple_SetItem(made, place, parts[place]);
    }
    if (failed) {
        Py_DECREF(made);
        return NULL;
    }
    PyObject_GC_UnTrack(made); /* it can't be part of a cycle, and there are many: the collector need not look */
    return made;
}

static PyObject *
scan(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer data;
    Py_ssize_t limit, at = 0;
    if (!PyArg_ParseTuple(args, "y*n:scan", &data, &limit))
        return NULL;
    PyObject *found = PyList_New(0);
    while (found && at + HEADER <= data.len && PyList_Size(found) < limit) {
        const unsigned char *frame = (const unsigned char *)data.buf + at;
        uint32_t length = load32(frame + 8);
        if (frame[4] != (MAGIC & 0xFF) || frame[5] != MAGIC >> 8 || length < 1 || length > MAX_PAYLOAD ||
            at + HEADER + (Py_ssize_t)length > data.len ||
            ~crc_more(0xFFFFFFFFu, frame + 4, HEADER - 4 + (size_t)length) != load32(frame))
            break;
        PyObject *one = record(frame, length);
        if (!one || PyList_Append(found, one) < 0)
            Py_CLEAR(found);
        Py_XDECREF(one);
        at += HEADER + (Py_ssize_t)length;
    }
    PyBuffer_Release(&data);
    return found ? Py_BuildValue("(Nn)", found, at) : NULL;
}

/* --- the module ------------------------------------------------------------------------------------------------ */

static int
module_exec(PyObject *module)
{
    make_crc_table();
    PyObject *type = PyType_FromSpec(&tail_spec);
    if (!type)
        return -1;
    int failed = PyModule_AddObjectRef(module, "Tail", type);
    Py_DECREF(type);
    return failed;
}

static PyMethodDef module_methods[] = {
    {"scan", scan, METH_VARARGS, "See frames.py."},
    {"take_plain", take_plain, METH_VARARGS, "See intake.py."},
    {"in_order", in_order, METH_O, "See fold.py."},
    {"add_counts", add_counts, METH_VARARGS, "See sketch.py."},
    {"cumulative", cumulative, METH_O, "See totals.py."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT, "_native", "The journal's loops in C.", 0, module_methods, module_slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&module_definition);
}
