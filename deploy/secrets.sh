#!/bin/sh
# Make the key of the S3 store of compose.yaml, once: s3.env beside this script, readable by its owner only.
set -eu
umask 077

file=$(dirname "$0")/s3.env
if [ -e "$file" ]; then
    echo "$file is there already; remove it to get another key (the store forgets the old one when it restarts)"
    exit 0
fi
random() {
    od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'
}
printf 'AWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\n' "$(random 10)" "$(random 20)" >"$file"
echo "$file: a new key"
