package boxlite

// #include <boxlite.h>
import "C"

import (
	"context"
	"maps"
	"slices"
	"strings"
)

// A ListFilter says which boxes are to be listed: those that fit everything that is set. The zero
// value lets all of them through.
type ListFilter struct {
	// Statuses lets through boxes of any of these.
	Statuses []BoxStatus
	// Labels lets through boxes that have all of these: "name" with whatever value, or "name=value".
	Labels []string
	// NamePrefix lets through boxes whose name begins so.
	NamePrefix string
	// Image lets through boxes of this image, written as it was when they were made.
	Image string
}

// List tells about all boxes of the home, newest first. One that cannot be read is listed too, with
// StatusUnknown and a Reason.
func (r *Runtime) List(ctx context.Context) ([]Info, error) {
	return r.ListMatching(ctx, ListFilter{})
}

// ListMatching tells about the boxes of the home that a filter lets through; otherwise as
// [Runtime.List]. Error: ErrInvalidArgument (a status or a label that there cannot be).
func (r *Runtime) ListMatching(ctx context.Context, filter ListFilter) ([]Info, error) {
	var list *C.boxlite_info_list
	err := r.operate(ctx, func(op **C.boxlite_op) error {
		return filter.c(func(f *C.boxlite_list_filter) error {
			return r.core.handle.call(func(p *C.boxlite_runtime, e **C.boxlite_error) C.boxlite_status {
				return C.boxlite_box_list_matching(p, f, op, e)
			})
		})
	}, func(op *C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_op_take_info_list(op, &list, e)
	})
	if err != nil {
		return nil, err
	}
	defer C.boxlite_info_list_free(list)
	infos := make([]Info, C.boxlite_info_list_count(list))
	for i := range infos {
		infos[i] = newInfo(C.boxlite_info_list_get(list, C.size_t(i)))
	}
	return infos, nil
}

// c makes the filter that C knows, for f to use.
func (l *ListFilter) c(f func(*C.boxlite_list_filter) error) error {
	var s setter
	defer s.free()
	var filter *C.boxlite_list_filter
	s.set(func(e **C.boxlite_error) C.boxlite_status { return C.boxlite_list_filter_new(&filter, e) })
	defer func() { C.boxlite_list_filter_free(filter) }()

	for _, status := range l.Statuses {
		s.set(func(e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_list_filter_add_status(filter, C.int32_t(status), e)
		})
	}
	for _, label := range l.Labels {
		name, value, found := strings.Cut(label, "=")
		cName, cValue := s.memory.text("Labels", name), s.memory.text("Labels", value)
		if !found {
			cValue = nil
		}
		s.set(func(e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_list_filter_add_label(filter, cName, cValue, e)
		})
	}
	s.text("NamePrefix", l.NamePrefix, func(text *C.char, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_list_filter_set_name_prefix(filter, text, e)
	})
	s.text("Image", l.Image, func(text *C.char, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_list_filter_set_image(filter, text, e)
	})
	if s.err != nil {
		return s.err
	}
	return f(filter)
}

// setLabels sets the labels in an order of their own, so that of several faults the same is told.
func (o *BoxOptions) setLabels(s *setter, options *C.boxlite_box_options) {
	for _, name := range slices.Sorted(maps.Keys(o.Labels)) {
		cName, cValue := s.memory.text("Labels", name), s.memory.text("Labels", o.Labels[name])
		s.set(func(e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_box_options_add_label(options, cName, cValue, e)
		})
	}
}

func newLabels(info *C.boxlite_box_info) map[string]string {
	count := C.boxlite_box_info_label_count(info)
	if count == 0 {
		return nil
	}
	labels := make(map[string]string, count)
	for n := range count {
		name := C.GoString(C.boxlite_box_info_label_name(info, n))
		labels[name] = C.GoString(C.boxlite_box_info_label_value(info, n))
	}
	return labels
}
