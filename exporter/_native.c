/* The lines of many histograms at once, in C, as blocks.py writes them in Python one by one.

   Optional, and only for what is plain: labels without a percent sign, counts that are whole, a finite sum. Only
   CPython's stable ABI is used, so one build serves 3.11 and later. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <math.h>
#include <string.h>

enum {
    LONGEST_NUMBER = 32, /* what 64 bits can be, as a whole number or as the shortest text of a double */
    OTHERS = 3,          /* of the lines, those behind the buckets: +Inf, count, sum */
};

typedef struct {
    const char *bytes;
    Py_ssize_t size;
} Text;

/* What stands before and after the label text of a line; then its number follows. */
typedef struct {
    Text before, after;
} Line;

typedef struct {
    PyObject *buckets, *value, *sum; /* names of attributes */
    Line *lines;
    Py_ssize_t count;
    Py_ssize_t fixed; /* bytes that the lines take besides label text and numbers */
    char *room;
    Py_ssize_t size;
} Writer;

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

/* Write a number into as many bytes as it needs. */
static Text
digits_of(unsigned long long count, char digits[LONGEST_NUMBER])
{
    int first = LONGEST_NUMBER;
    do
        digits[--first] = (char)('0' + count % 10);
    while (count /= 10);
    return (Text){digits + first, LONGEST_NUMBER - first};
}

/* The shortest text that reads back equal, whole numbers without a point; no text where that isn't finite. */
static Text
shortest_of(double value, char digits[LONGEST_NUMBER])
{
    Text text = {digits, 0};
    char *found = isfinite(value) ? PyOS_double_to_string(value, 'r', 0, 0, NULL) : NULL;
    size_t size = found ? strlen(found) : 0;
    if (size && size <= LONGEST_NUMBER) {
        memcpy(digits, found, size);
        text.size = (Py_ssize_t)size;
    }
    PyMem_Free(found);
    PyErr_Clear(); /* of memory: then Python's own way says so */
    return text;
}

static char *
put_line(char *at, const Line *line, const Text *inner, const Text *number)
{
    at = put(put(put(put(at, &line->before), inner), &line->after), number);
    *at++ = '\n';
    return at;
}

/* The text of one histogram; None where something isn't plain. */
static PyObject *
written(Writer *writer, const Text *inner, PyObject *buckets, PyObject *value, PyObject *sum)
{
    char digits[LONGEST_NUMBER];
    unsigned long long count;
    Py_ssize_t places = writer->count - OTHERS;
    if (!PyTuple_CheckExact(buckets) || PyTuple_Size(buckets) != places || !PyFloat_CheckExact(sum))
        Py_RETURN_NONE;
    Py_ssize_t needed = writer->fixed + writer->count * (inner->size + LONGEST_NUMBER + 1);
    if (needed > writer->size) {
        char *room = PyMem_Realloc(writer->room, (size_t)needed);
        if (!room)
            return PyErr_NoMemory();
        writer->room = room;
        writer->size = needed;
    }
    char *at = writer->room;
    for (Py_ssize_t place = 0; place < places; place++) {
        if (!count_of(PyTuple_GetItem(buckets, place), &count))
            Py_RETURN_NONE;
        Text number = digits_of(count, digits);
        at = put_line(at, &writer->lines[place], inner, &number);
    }
    if (!count_of(value, &count))
        Py_RETURN_NONE;
    Text number = digits_of(count, digits);
    at = put_line(at, &writer->lines[places], inner, &number);
    at = put_line(at, &writer->lines[places + 1], inner, &number);
    number = shortest_of(PyFloat_AsDouble(sum), digits);
    if (!number.size)
        Py_RETURN_NONE;
    at = put_line(at, &writer->lines[places + 2], inner, &number);
    return PyBytes_FromStringAndSize(writer->room, at - writer->room);
}

static PyObject *
write_one(Writer *writer, PyObject *label_text, PyObject *series)
{
    Text inner;
    if (!text_of(label_text, &inner) || !inner.size || memchr(inner.bytes, '%', (size_t)inner.size))
        Py_RETURN_NONE;
    PyObject *buckets = PyObject_GetAttr(series, writer->buckets);
    PyObject *value = buckets ? PyObject_GetAttr(series, writer->value) : NULL;
    PyObject *sum = value ? PyObject_GetAttr(series, writer->sum) : NULL;
    PyObject *text = sum ? written(writer, &inner, buckets, value, sum) : NULL;
    Py_XDECREF(buckets);
    Py_XDECREF(value);
    Py_XDECREF(sum);
    return text;
}

/* Take the lines over; 0 where they aren't those of a histogram. */
static int
prepare(Writer *writer, PyObject *lines)
{
    writer->count = PyTuple_Size(lines);
    writer->lines = writer->count < OTHERS ? NULL : PyMem_Calloc((size_t)writer->count, sizeof(Line));
    for (Py_ssize_t place = 0; writer->lines && place < writer->count; place++) {
        PyObject *pair = PyTuple_GetItem(lines, place);
        Line *line = &writer->lines[place];
        if (!PyTuple_CheckExact(pair) || PyTuple_Size(pair) != 2 || !text_of(PyTuple_GetItem(pair, 0), &line->before) ||
            !text_of(PyTuple_GetItem(pair, 1), &line->after))
            return 0;
        writer->fixed += line->before.size + line->after.size;
    }
    writer->buckets = PyUnicode_InternFromString("buckets");
    writer->value = PyUnicode_InternFromString("value");
    writer->sum = PyUnicode_InternFromString("sum");
    return writer->lines && writer->buckets && writer->value && writer->sum;
}

static void
release(Writer *writer)
{
    PyMem_Free(writer->lines);
    PyMem_Free(writer->room);
    Py_XDECREF(writer->buckets);
    Py_XDECREF(writer->value);
    Py_XDECREF(writer->sum);
}

static PyObject *
write_histograms(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *lines, *inners, *series, *texts = NULL;
    Writer writer = {0};
    if (!PyArg_ParseTuple(args, "O!O!O!:write_histograms", &PyTuple_Type, &lines, &PyTuple_Type, &inners,
                          &PyTuple_Type, &series))
        return NULL;
    Py_ssize_t count = PyTuple_Size(series);
    if (PyTuple_Size(inners) == count && prepare(&writer, lines))
        texts = PyList_New(count);
    else if (!PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "these are no lines of histograms, or not as many labels as series");
    for (Py_ssize_t place = 0; texts && place < count; place++) {
        PyObject *text = write_one(&writer, PyTuple_GetItem(inners, place), PyTuple_GetItem(series, place));
        if (!text || PyList_SetItem(texts, place, text) < 0)
            Py_CLEAR(texts);
    }
    release(&writer);
    return texts;
}

static PyMethodDef module_methods[] = {
    {"write_histograms", write_histograms, METH_VARARGS, "See blocks.py."},
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
