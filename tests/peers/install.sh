#!/bin/sh
# Installs what the tests and the benchmarks of the device drivers talk to: ipmi_sim, ipmitool, fence agents, openssl (Debian
# packages), and pyghmi and sushy-tools in a Python environment of their own.
#   install.sh [VENV]    VENV defaults to tests/.lab/venv
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-$here/../.lab/venv}

missing=
command -v ipmi_sim >/dev/null || missing="$missing openipmi"
command -v ipmitool >/dev/null || missing="$missing ipmitool"
command -v fence_ipmilan >/dev/null || [ -x /usr/sbin/fence_ipmilan ] || missing="$missing fence-agents"
command -v openssl >/dev/null || missing="$missing openssl"
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

if ! "$venv/bin/python3" -c 'import pyghmi, sushy_tools' 2>/dev/null; then
    mkdir -p "$(dirname "$venv")"
    /usr/bin/python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check pyghmi==1.6.19 sushy-tools==2.2.0
fi
echo "peers: $(command -v ipmi_sim), $(command -v ipmitool), pyghmi and sushy-tools in $venv"
