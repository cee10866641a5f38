/* The buckets of many histograms at once, in C, as totals.py decodes and adds them up in Python.

   Only what is plain: a msgpack array of whole numbers that aren't negative, whose sum 64 bits hold. */

#include "_native.h"

/* Big-endian, as msgpack has all its numbers. */
static uint64_t
number_at(const unsigned char *at, int size)
{
    uint64_t number = 0;
    while (size--)
        number = number << 8 | *at++;
    return number;
}

/* Read the length of an array; where its items begin, or NULL where this is none. */
static const unsigned char *
array_at(const unsigned char *at, const unsigned char *end, Py_ssize_t *length)
{
    if (at < end && (*at & 0xf0) == 0x90) {
        *length = *at & 0x0f;
        return at + 1;
    }
    if (end - at >= 3 && *at == 0xdc) {
        *length = (Py_ssize_t)number_at(at + 1, 2);
        return at + 3;
    }
    return NULL;
}

/* Read a whole number that isn't negative; where it ends, or NULL where this is none. */
static const unsigned char *
count_at(const unsigned char *at, const unsigned char *end, uint64_t *count)
{
    if (at >= end)
        return NULL;
    if (*at < 0x80) {
        *count = *at;
        return at + 1;
    }
    if (*at < 0xcc || *at > 0xcf)
        return NULL;
    int size = 1 << (*at - 0xcc);
    if (end - at <= size)
        return NULL;
    *count = number_at(at + 1, size);
    return at + 1 + size;
}

/* The counts up to each bound, without the last one; NULL where something isn't plain, or an exception is set. */
static PyObject *
added_up(PyObject *blob)
{
    if (!PyBytes_CheckExact(blob))
        return NULL;
    const unsigned char *at = (const unsigned char *)PyBytes_AsString(blob), *end = at + PyBytes_Size(blob);
    Py_ssize_t length = 0;
    uint64_t sum = 0, count;
    at = array_at(at, end, &length);
    if (!at || !length || length > end - at)
        return NULL;
    PyObject *counts = PyTuple_New(length - 1);
    for (Py_ssize_t place = 0; counts && place < length - 1; place++) {
        at = count_at(at, end, &count);
        PyObject *number = at && count <= UINT64_MAX - sum ? PyLong_FromUnsignedLongLong(sum += count) : NULL;
        if (!number || PyTuple_SetItem(counts, place, number) < 0)
            Py_CLEAR(counts);
    }
    if (counts && count_at(at, end, &count) != end)
        Py_CLEAR(counts);
    return counts;
}

/* None where one of them isn't plain. */
PyObject *
cumulative(PyObject *Py_UNUSED(module), PyObject *blobs)
{
    if (!PyList_CheckExact(blobs))
        return PyErr_Format(PyExc_TypeError, "a list is needed");
    Py_ssize_t length = PyList_Size(blobs);
    PyObject *found = PyList_New(length);
    for (Py_ssize_t place = 0; found && place < length; place++) {
        PyObject *counts = added_up(PyList_GetItem(blobs, place));
        if (!counts || PyList_SetItem(found, place, counts) < 0)
            Py_CLEAR(found);
    }
    if (!found && !PyErr_Occurred())
        Py_RETURN_NONE;
    return found;
}
