module github.com/boxlite/libboxlite/examples/go

go 1.24

require github.com/boxlite/libboxlite/bindings/go v0.0.0

replace github.com/boxlite/libboxlite/bindings/go => ../../bindings/go
