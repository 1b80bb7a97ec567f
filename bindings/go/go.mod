module github.com/boxlite/libboxlite/bindings/go

go 1.24
