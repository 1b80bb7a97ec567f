{
    "targets": [
        {
            "target_name": "boxlite",
            "sources": [
                "src/addon.cc",
                "src/box.cc",
                "src/error.cc",
                "src/events.cc",
                "src/exec.cc",
                "src/instance.cc",
                "src/loop.cc",
                "src/metrics.cc",
                "src/op.cc",
                "src/options.cc",
                "src/runtime.cc",
                "src/values.cc",
            ],
            "dependencies": [
                "<!(node -p \"require('node-addon-api').targets\"):node_addon_api_except_all",
            ],
            "defines": [
                "NAPI_VERSION=8",
                # A worker that was told to terminate refuses also to be thrown an exception.
                # Without this, that refusal is a C++ exception in turn, which nobody catches.
                "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS",
            ],
            "cflags": ["<!@(pkg-config --cflags boxlite)", "-Wall", "-Wextra"],
            # node-gyp's own flags switch exceptions off and name an older standard.
            "cflags_cc!": ["-fno-exceptions", "-std=gnu++14"],
            "cflags_cc": ["-std=c++17", "-fvisibility=hidden"],
            "libraries": [
                "<!@(pkg-config --libs boxlite)",
                "-Wl,-rpath,<!(pkg-config --variable=libdir boxlite)",
            ],
        }
    ]
}
