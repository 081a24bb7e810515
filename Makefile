# Forwards to scripts/, which need no make; the build itself is described in CMakeLists.txt.
.PHONY: all demo test asan tsan fuzz lint install help
all:
	scripts/bootstrap
	scripts/build build all
demo:
	scripts/demo
test:
	scripts/test
asan tsan:
	scripts/sanitize $@
fuzz:
	scripts/fuzz 60
lint:
	tools/check_layers
	tools/check_source
install: all
	cmake --install build
help:
	@echo "make [all|demo|test|asan|tsan|fuzz|lint|install]"
