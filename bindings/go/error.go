package boxlite

// #include <boxlite.h>
import "C"

import (
	"errors"
	"syscall"
)

// ErrClosed is returned by the methods of a Runtime, Box, Exec or Subscription that was closed, and by
// reads and writes of streams that were.
var ErrClosed = errors.New("boxlite: closed")

// Code says what kind of failure an [Error] is. Each code is itself an error to compare with:
//
//	if errors.Is(err, boxlite.ErrNotFound) { ... }
type Code int32

// The codes of libboxlite. Codes may be added, and never change.
const (
	ErrInternal          Code = C.BOXLITE_INTERNAL           // a fault of the library itself
	ErrNotFound          Code = C.BOXLITE_NOT_FOUND          // the named object does not exist
	ErrAlreadyExists     Code = C.BOXLITE_ALREADY_EXISTS     // an object with this name exists
	ErrInvalidState      Code = C.BOXLITE_INVALID_STATE      // the object's state does not permit the call
	ErrInvalidArgument   Code = C.BOXLITE_INVALID_ARGUMENT   // an argument is out of range or malformed
	ErrConfig            Code = C.BOXLITE_CONFIG             // the configuration or installation is unusable
	ErrStorage           Code = C.BOXLITE_STORAGE            // the file system or a disk refused something
	ErrImage             Code = C.BOXLITE_IMAGE              // an image is missing, damaged, of another platform
	ErrNetwork           Code = C.BOXLITE_NETWORK            // a network operation failed
	ErrExecution         Code = C.BOXLITE_EXECUTION          // a command could not be run in a box
	ErrStopped           Code = C.BOXLITE_STOPPED            // the box stopped meanwhile
	ErrEngine            Code = C.BOXLITE_ENGINE             // the virtual machine monitor failed or is missing
	ErrUnsupported       Code = C.BOXLITE_UNSUPPORTED        // this build or host cannot do that
	ErrDatabase          Code = C.BOXLITE_DATABASE           // the database refused an operation
	ErrPortal            Code = C.BOXLITE_PORTAL             // the connection to a box's agent failed
	ErrRPC               Code = C.BOXLITE_RPC                // a remote call returned an error
	ErrRPCTransport      Code = C.BOXLITE_RPC_TRANSPORT      // a remote call could not be carried out
	ErrMetadata          Code = C.BOXLITE_METADATA           // stored metadata is unreadable
	ErrUnsupportedEngine Code = C.BOXLITE_UNSUPPORTED_ENGINE // the engine or accelerator does not work here
	ErrResourceExhausted Code = C.BOXLITE_RESOURCE_EXHAUSTED // memory, disk or another resource is used up
	ErrCancelled         Code = C.BOXLITE_CANCELLED          // the operation was cancelled
	ErrTimeout           Code = C.BOXLITE_TIMEOUT            // a deadline of the library's passed
	ErrPanic             Code = C.BOXLITE_PANIC              // the library panicked; please report it
	ErrBusy              Code = C.BOXLITE_BUSY               // the object is in use; try again later
	ErrWouldBlock        Code = C.BOXLITE_WOULD_BLOCK        // the call would have to wait
	ErrGap               Code = C.BOXLITE_GAP                // bytes of an output are gone; see GapError
)

// Error returns the name of the code, such as "BOXLITE_NOT_FOUND".
func (c Code) Error() string {
	return C.GoString(C.boxlite_status_name(C.int32_t(c)))
}

// An Error is a failure that the library reports. It matches its Code and its Errno in [errors.Is].
type Error struct {
	// Code is the kind of failure.
	Code Code
	// Message is for people: what failed, why, and what to do.
	Message string
	// Object is what the failure is about: an argument's name, a path, a box. It may be empty.
	Object string
	// Errno is the operating system's error number that was the cause, or 0.
	Errno syscall.Errno
	// Retryable tells whether the same call may succeed later without any change.
	Retryable bool
}

// Error returns the message.
func (e *Error) Error() string {
	return "boxlite: " + e.Message
}

// Unwrap returns the code, and the error number if there is one.
func (e *Error) Unwrap() []error {
	if e.Errno == 0 {
		return []error{e.Code}
	}
	return []error{e.Code, e.Errno}
}

// invalid is the error for an argument that C cannot even be given.
func invalid(field, why string) error {
	return &Error{Code: ErrInvalidArgument, Message: field + ": " + why, Object: field}
}

// call makes a call that may fail, and turns its error into one of Go's.
func call(f func(e **C.boxlite_error) C.boxlite_status) error {
	var e *C.boxlite_error
	if status := f(&e); status != C.BOXLITE_OK {
		defer C.boxlite_error_free(e)
		return newError(Code(status), e)
	}
	return nil
}

// newError copies an error. A call that fails without one, such as a dispatch that found nothing,
// still has its code.
func newError(code Code, e *C.boxlite_error) *Error {
	if e == nil {
		return &Error{Code: code, Message: code.Error()}
	}
	return &Error{
		Code:      Code(C.boxlite_error_code(e)),
		Message:   C.GoString(C.boxlite_error_message(e)),
		Object:    C.GoString(C.boxlite_error_object(e)),
		Errno:     syscall.Errno(C.boxlite_error_errno(e)),
		Retryable: bool(C.boxlite_error_is_retryable(e)),
	}
}
