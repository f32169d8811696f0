# Sourced by test.sh, demo.sh and .ci/run: one place that makes and fills the virtual environment.

# install_into PYTHON ARGUMENT...: `pip install`, by uv, which needs a quarter of pip's time for several GB.
install_into() {
    local python=$1
    shift
    "$python" -m pip install --quiet --disable-pip-version-check uv
    "$python" -m uv pip install --quiet --python "$python" "$@"
}

# prepare_environment REQUIREMENT: sets PYTHON, installs REQUIREMENT (editable) unless it was installed before
# from the same pyproject.toml.
prepare_environment() {
    local requirement=$1
    local venv=${GAUSSIANTALKER_VENV:-.venv}
    if [ "$venv" = active ]; then
        PYTHON=$(command -v python3)
        venv=$("$PYTHON" -c 'import sys; print(sys.prefix)')
    else
        if [ ! -x "$venv/bin/python" ]; then
            echo "Creating the virtual environment $venv"
            "${GAUSSIANTALKER_PYTHON:-python3}" -m venv "$venv"
        fi
        PYTHON=$venv/bin/python
    fi
    # The stamp carries the checksum of what decides the installation, so that a repeated run installs nothing.
    local stamp="$venv/.gaussiantalker-ns-${requirement//[^a-z]/}"
    local wanted
    wanted=$({ pwd -P; cat pyproject.toml; } | cksum)
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        echo "Installing gaussiantalker-ns and what it needs into $venv (several GB the first time)"
        install_into "$PYTHON" --editable "$requirement"
        echo "$wanted" > "$stamp"
    fi
}
