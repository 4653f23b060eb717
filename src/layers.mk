# The layers, lowest first, and what each may include besides itself (include/ is open to all).
# The Makefile turns a row into -I flags and link order; script/layers checks every #include against it.
LAYERS := base quant load text model plan backend engine tools serve cli
USES_base :=
USES_quant := base
USES_load := base quant
USES_text := base
USES_model := base quant
USES_plan := base quant model
USES_backend := base quant model
USES_engine := base load text model plan backend
USES_tools := base quant load text model plan backend engine
USES_serve := base text
USES_cli := tools serve

# Libraries of each layer, by pkg-config name.
PKGS_base := hwloc
PKGS_load := jansson yajl
PKGS_text := libpcre2-8 libutf8proc jansson yajl
PKGS_tools := jansson libcurl libpcre2-8 libutf8proc
PKGS_serve := libmicrohttpd libseccomp jansson
PKGS_cli := jansson libedit
