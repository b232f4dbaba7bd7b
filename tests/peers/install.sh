#!/bin/sh
# Installs what the tests and the benchmark of the IPMI driver talk to: ipmi_sim, ipmitool, fence_ipmilan (Debian packages),
# and pyghmi in a Python environment of its own.
#   install.sh [VENV]    VENV defaults to tests/.lab/venv
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-$here/../.lab/venv}

missing=
command -v ipmi_sim >/dev/null || missing="$missing openipmi"
command -v ipmitool >/dev/null || missing="$missing ipmitool"
command -v fence_ipmilan >/dev/null || [ -x /usr/sbin/fence_ipmilan ] || missing="$missing fence-agents"
[ -x /usr/bin/python3 ] || missing="$missing python3"
/usr/bin/python3 -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086 # a list of packages
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing || {
        apt-get update
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
    }
fi

if ! "$venv/bin/python3" -c 'import pyghmi' 2>/dev/null; then
    mkdir -p "$(dirname "$venv")"
    /usr/bin/python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check pyghmi==1.6.19
fi
echo "peers: $(command -v ipmi_sim), $(command -v ipmitool), pyghmi in $venv"
