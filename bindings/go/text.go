package boxlite

// #include <stdlib.h>
import "C"

import (
	"strings"
	"unsafe"
)

// A memory holds copies in C's memory for the time of a few calls.
type memory struct {
	blocks []unsafe.Pointer
	err    error
}

func (m *memory) free() {
	for _, block := range m.blocks {
		C.free(block)
	}
}

// text copies a string. One that C would take for a shorter one is an error, kept in m.err.
func (m *memory) text(field, s string) *C.char {
	if strings.IndexByte(s, 0) >= 0 && m.err == nil {
		m.err = invalid(field, "must not contain a NUL byte")
	}
	copied := C.CString(s)
	m.blocks = append(m.blocks, unsafe.Pointer(copied))
	return copied
}

// optional copies a string, and returns nil for an empty one.
func (m *memory) optional(field, s string) *C.char {
	if s == "" {
		return nil
	}
	return m.text(field, s)
}

// list copies strings, and returns nil for none.
func (m *memory) list(field string, list []string) (**C.char, C.size_t) {
	if len(list) == 0 {
		return nil, 0
	}
	size := C.size_t(len(list)) * C.size_t(unsafe.Sizeof((*C.char)(nil)))
	block := C.malloc(size)
	m.blocks = append(m.blocks, block)
	for i, s := range list {
		unsafe.Slice((**C.char)(block), len(list))[i] = m.text(field, s)
	}
	return (**C.char)(block), C.size_t(len(list))
}

// optionals copies strings as list does, but has nil for each empty one.
func (m *memory) optionals(field string, list []string) **C.char {
	array, _ := m.list(field, list)
	for i, s := range list {
		if s == "" {
			unsafe.Slice(array, len(list))[i] = nil
		}
	}
	return array
}
