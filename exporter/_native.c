/* The lines of one series, in C: label text and whole numbers, as blocks.py fills them in in Python.

   Optional, and only for what is plain: labels without a percent sign, counts that are whole. Only CPython's
   stable ABI is used, so one build serves 3.11 and later. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <math.h>
#include <string.h>

enum { LONGEST_NUMBER = 20 };

typedef struct {
    const char *bytes;
    Py_ssize_t size;
} Text;

static int
text_of(PyObject *object, Text *text)
{
    if (!object || !PyBytes_CheckExact(object))
        return 0;
    text->bytes = PyBytes_AsString(object);
    text->size = PyBytes_Size(object);
    return 1;
}

static char *
put(char *at, const Text *text)
{
    memcpy(at, text->bytes, (size_t)text->size);
    return at + text->size;
}

/* A whole number that isn't negative; 0 where it is anything else. */
static int
count_of(PyObject *number, unsigned long long *count)
{
    if (PyFloat_CheckExact(number)) {
        double value = PyFloat_AsDouble(number);
        if (!(value >= 0 && value < 9007199254740992.0) || floor(value) != value)
            return 0;
        *count = (unsigned long long)value;
        return 1;
    }
    if (!PyLong_CheckExact(number))
        return 0;
    *count = PyLong_AsUnsignedLongLong(number);
    if (*count == (unsigned long long)-1 && PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    return 1;
}

static char *
put_count(char *at, unsigned long long count)
{
    char digits[LONGEST_NUMBER];
    int first = LONGEST_NUMBER;
    do
        digits[--first] = (char)('0' + count % 10);
    while (count /= 10);
    memcpy(at, digits + first, (size_t)(LONGEST_NUMBER - first));
    return at + LONGEST_NUMBER - first;
}

/* Fill one line in; NULL where something isn't plain. */
static char *
put_line(char *at, PyObject *line, const Text *inner, PyObject *number)
{
    Text before, after, text;
    unsigned long long count;
    if (!text_of(PyTuple_GetItem(line, 0), &before) || !text_of(PyTuple_GetItem(line, 1), &after))
        return NULL;
    at = put(put(put(at, &before), inner), &after);
    if (text_of(number, &text))
        at = put(at, &text);
    else if (count_of(number, &count))
        at = put_count(at, count);
    else
        return NULL;
    *at++ = '\n';
    return at;
}

/* The most that the lines can take; -1 where something isn't plain. */
static Py_ssize_t
room_for(PyObject *lines, const Text *inner, PyObject *numbers)
{
    Py_ssize_t size = 0;
    for (Py_ssize_t place = 0; place < PyTuple_Size(lines); place++) {
        PyObject *line = PyTuple_GetItem(lines, place);
        Text before, after, text = {NULL, LONGEST_NUMBER};
        if (!PyTuple_CheckExact(line) || PyTuple_Size(line) != 2 || !text_of(PyTuple_GetItem(line, 0), &before) ||
            !text_of(PyTuple_GetItem(line, 1), &after))
            return -1;
        text_of(PyTuple_GetItem(numbers, place), &text);
        size += before.size + inner->size + after.size + text.size + 1;
    }
    return size;
}

static PyObject *
fill(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *lines, *numbers, *label_text;
    Text inner;
    if (!PyArg_ParseTuple(args, "O!O!O!:fill", &PyTuple_Type, &lines, &PyBytes_Type, &label_text, &PyTuple_Type,
                          &numbers))
        return NULL;
    if (!text_of(label_text, &inner) || !inner.size || memchr(inner.bytes, '%', (size_t)inner.size) ||
        PyTuple_Size(lines) != PyTuple_Size(numbers))
        Py_RETURN_NONE;
    Py_ssize_t room = room_for(lines, &inner, numbers);
    char *start = room < 0 ? NULL : PyMem_Malloc((size_t)room + 1), *at = start;
    if (!start)
        Py_RETURN_NONE;
    for (Py_ssize_t place = 0; at && place < PyTuple_Size(lines); place++)
        at = put_line(at, PyTuple_GetItem(lines, place), &inner, PyTuple_GetItem(numbers, place));
    PyObject *filled = at ? PyBytes_FromStringAndSize(start, at - start) : Py_NewRef(Py_None);
    PyMem_Free(start);
    return filled;
}

static PyMethodDef module_methods[] = {
    {"fill", fill, METH_VARARGS, "See blocks.py."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {{0, NULL}};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT, "_native", "The exposition's inner loop in C.", 0, module_methods, module_slots, NULL, NULL,
    NULL,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&module_definition);
}
