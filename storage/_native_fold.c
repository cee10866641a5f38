/* Ordering the spans of a fold and counting their durations, in C. See `fold.py` and `sketch.py`, which hold the same
   in Python and do whatever isn't plain here. */

#include "_native.h"
#include <stdlib.h>

enum { START = 5, DURATION = 6 }; /* places in a span's row */

typedef struct {
    int64_t duration;
    Py_ssize_t place;
} Entry;

static int
compare(const void *one, const void *other)
{
    const Entry *left = one, *right = other;
    if (left->duration != right->duration)
        return left->duration < right->duration ? -1 : 1;
    return left->place < right->place ? -1 : 1; /* stable, as Python's sort */
}

/* -1: an exception. */
static int
read_rows(PyObject *rows, Entry *entries, Py_ssize_t count, int64_t *last)
{
    *last = INT64_MIN;
    for (Py_ssize_t place = 0; place < count; place++) {
        PyObject *row = PyList_GetItem(rows, place);
        PyObject *start = row ? PyTuple_GetItem(row, START) : NULL, *duration = row ? PyTuple_GetItem(row, DURATION) : NULL;
        if (!start || !duration)
            return -1;
        int64_t end = PyLong_AsLongLong(start);
        entries[place].duration = PyLong_AsLongLong(duration);
        entries[place].place = place;
        if (PyErr_Occurred())
            return -1;
        end += entries[place].duration; /* an end is within 63 bits, as `intake` sees to */
        *last = end > *last ? end : *last;
    }
    return 0;
}

PyObject *
in_order(PyObject *module, PyObject *rows)
{
    (void)module;
    Py_ssize_t count = PyList_Size(rows);
    if (count < 0)
        return NULL;
    Entry *entries = malloc((size_t)(count ? count : 1) * sizeof *entries);
    if (!entries)
        return PyErr_NoMemory();
    int64_t last;
    PyObject *ordered = PyList_New(count), *durations = PyList_New(count);
    int failed = !ordered || !durations || read_rows(rows, entries, count, &last) < 0;
    if (!failed)
        qsort(entries, (size_t)count, sizeof *entries, compare);
    for (Py_ssize_t at = 0; !failed && at < count; at++) {
        PyObject *row = PyList_GetItem(rows, entries[at].place);
        PyList_SetItem(ordered, at, Py_NewRef(row));
        PyList_SetItem(durations, at, Py_NewRef(PyTuple_GetItem(row, DURATION)));
    }
    free(entries);
    if (failed) {
        Py_XDECREF(ordered);
        Py_XDECREF(durations);
        return NULL;
    }
    return Py_BuildValue("(NNL)", ordered, durations, (long long)last);
}

/* The first of the bounds that a value is not above, as `bisect_left` finds it. */
static Py_ssize_t
place_of(const int64_t *bounds, Py_ssize_t count, int64_t value)
{
    Py_ssize_t low = 0;
    while (count > 0) {
        Py_ssize_t half = count / 2;
        if (bounds[low + half] < value) {
            low += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return low;
}

static int
add_to_count(PyObject *counts, Py_ssize_t place, Py_ssize_t more, long zero)
{
    PyObject *index = PyLong_FromSsize_t(place ? place - 1 : zero);
    PyObject *known = index ? PyDict_GetItemWithError(counts, index) : NULL;
    long long before = known ? PyLong_AsLongLong(known) : 0;
    PyObject *after = PyErr_Occurred() ? NULL : PyLong_FromLongLong(before + more);
    int failed = after ? PyDict_SetItem(counts, index, after) : -1;
    Py_XDECREF(after);
    Py_XDECREF(index);
    return failed;
}

PyObject *
add_counts(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *counts, *values;
    const char *bounds;
    Py_ssize_t size, many = 0, before = -1;
    long zero;
    if (!PyArg_ParseTuple(args, "O!O!y#l:add_counts", &PyDict_Type, &counts, &PyList_Type, &values, &bounds, &size, &zero))
        return NULL;
    for (Py_ssize_t at = 0; at < PyList_Size(values); at++) {
        int64_t value = PyLong_AsLongLong(PyList_GetItem(values, at));
        if (value == -1 && PyErr_Occurred())
            return NULL;
        Py_ssize_t place = place_of((const int64_t *)bounds, size / (Py_ssize_t)sizeof(int64_t), value);
        if (place != before && many && add_to_count(counts, before, many, zero) < 0)
            return NULL;
        many = place == before ? many + 1 : 1;
        before = place;
    }
    if (many && add_to_count(counts, before, many, zero) < 0)
        return NULL;
    return Py_NewRef(Py_None);
}
