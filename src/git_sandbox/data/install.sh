#!/bin/sh
# Runs inside the new root, as its root, during an image build: installs what is not Debian's.
# Arguments: `npm PACKAGE…`, `pip PACKAGE…`, or `run SCRIPT…`, each script in base64.
set -eu
export HOME=/tmp/install-home PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p "$HOME"
if [ -e /tmp/authorities.crt ]; then # the host's, which may be a company's; they stay out of the image
  export SSL_CERT_FILE=/tmp/authorities.crt PIP_CERT=/tmp/authorities.crt NODE_EXTRA_CA_CERTS=/tmp/authorities.crt
  export npm_config_cafile=/tmp/authorities.crt CURL_CA_BUNDLE=/tmp/authorities.crt REQUESTS_CA_BUNDLE=/tmp/authorities.crt
fi
kind=$1
shift
echo "I: installing with $kind: $(printf '%.60s' "$*")"
case $kind in
  npm)
    npm install --global --no-fund --no-audit --no-update-notifier --loglevel=error -- "$@"
    ;;
  pip) # apart from Debian's own packages, which pip cannot replace; programs are on everybody's PATH
    [ -d /opt/pip ] || python3 -m venv /opt/pip
    /opt/pip/bin/pip install --no-cache-dir --disable-pip-version-check --quiet -- "$@"
    for each in /opt/pip/bin/*; do
      case ${each##*/} in
        activate* | Activate* | pip* | python* | easy_install*) ;;
        *) ln -sf "$each" "/usr/local/bin/${each##*/}" ;;
      esac
    done
    ;;
  run)
    for each in "$@"; do
      printf %s "$each" | base64 -d > /tmp/install-step
      sh -eu /tmp/install-step
    done
    ;;
esac
rm -rf "$HOME" /tmp/install-step
