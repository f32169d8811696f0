# Sourced by test.sh, demo.sh and .ci/run: one place that makes and fills the virtual environment.

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
        "$PYTHON" -m pip install --quiet --disable-pip-version-check --editable "$requirement"
        echo "$wanted" > "$stamp"
    fi
}
