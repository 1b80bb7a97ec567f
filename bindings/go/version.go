package boxlite

// #cgo pkg-config: boxlite
// #include <boxlite.h>
import "C"

// Version returns the version of the library that is running, such as "0.1.0".
func Version() string {
	return C.GoString(C.boxlite_version())
}
