#!/usr/bin/env bash
# Holds the messages of commits to what CONTRIBUTING.md asks of them: a subject within 72 characters that is an order and
# has no full stop, an empty line, and a body that says why (a warning only, since a rename may explain itself).
#
#   scripts/check-commits.sh                 what this branch has that origin/main (or main) has not
#   scripts/check-commits.sh v0.1.0..HEAD    any range that git log takes
#   scripts/check-commits.sh --message FILE  one message, as a commit-msg hook gets it:
#                                            ln -s ../../scripts/check-commits.sh .git/hooks/commit-msg
set -euo pipefail

readonly LONGEST=72
faults=0
warnings=0

fault() { printf '%s: %s\n    %s\n' "$1" "$2" "$3" >&2; faults=$((faults + 1)); }
warn() { printf '%s: warning: %s\n    %s\n' "$1" "$2" "$3" >&2; warnings=$((warnings + 1)); }

# judge NAME MESSAGE: tells what is wrong with one message.
judge() {
    local name=$1 message=$2 subject rest first
    subject=${message%%$'\n'*}
    rest=${message#"$subject"}
    case $subject in
        'Merge '* | 'Revert "'*) return ;;
        'fixup! '* | 'squash! '*) fault "$name" "is to be folded into the commit that it mends (git rebase --autosquash)" "$subject"; return ;;
        '') fault "$name" "has no subject; say what the change does, as an order" "(empty)"; return ;;
    esac
    # In a locale that knows no UTF-8, ${#subject} would count bytes.
    if ((${#subject} > LONGEST)); then
        fault "$name" "the subject has ${#subject} characters, at most $LONGEST are shown by git's tools; move the rest into the body" "$subject"
    fi
    [[ $subject != *. ]] || fault "$name" "the subject ends with a full stop; leave it out" "$subject"
    first=${subject%% *}
    # Names of tools and files begin as they are spelled: only words are held to this.
    [[ ! $first =~ ^[a-z]+$ ]] || fault "$name" "the subject begins with a small letter" "$subject"
    if [[ $first =~ ^(Added|Adds|Adding|Fixed|Fixes|Fixing|Changed|Changes|Changing|Removed|Removes|Removing|Updated|Updates|Updating)$ ]]; then
        fault "$name" "the subject is no order: write what the change does (\"Add …\"), not what you did" "$subject"
    fi
    if [[ $rest == $'\n'[!$'\n']* ]]; then
        fault "$name" "the second line is not empty: git takes it for a part of the subject" "$subject"
    fi
    [[ -n ${rest//[$'\n\t ']/} ]] || warn "$name" "there is no body; say why, unless the subject does" "$subject"
}

export LC_ALL=C.UTF-8
if [[ $(basename "$0") == commit-msg ]]; then set -- --message "$@"; fi
if [[ ${1:-} == --message ]]; then
    [[ $# -eq 2 && -r $2 ]] || { echo "usage: $0 --message FILE" >&2; exit 2; }
    judge "the message" "$(git stripspace --strip-comments <"$2")"
else
    [[ $# -le 1 && ${1:-} != -* ]] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
    range=${1:-}
    if [[ -z $range ]]; then
        base=$(git rev-parse --quiet --verify origin/main || git rev-parse --quiet --verify main) ||
            { echo "there is neither origin/main nor main: name a range, such as HEAD~5..HEAD" >&2; exit 2; }
        range=$base..HEAD
    fi
    commits=$(git rev-list --no-merges --reverse "$range") || exit 2
    for commit in $commits; do
        judge "${commit:0:10}" "$(git show --no-patch --format=%B "$commit")"
    done
fi
printf '%s: %d to mend, %d to look at\n' "$(basename "$0")" "$faults" "$warnings" >&2
((faults == 0))
