/* What the files of the C module share. */

#ifndef TRACEKEEP_STORAGE_NATIVE_H
#define TRACEKEEP_STORAGE_NATIVE_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

PyObject *take_plain(PyObject *module, PyObject *args);
PyObject *in_order(PyObject *module, PyObject *rows);
PyObject *add_counts(PyObject *module, PyObject *args);
PyObject *cumulative(PyObject *module, PyObject *blobs);

#endif
