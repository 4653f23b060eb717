# shellcheck shell=bash
# Completion of larder for bash. Verbs and options are asked of the program, so this file never goes stale.

_larder_verbs() { larder --help 2>/dev/null | sed -n '/^verbs:/,/^$/s/^  \([a-z]*\) .*/\1/p'; }
_larder_options() { larder "$1" --help 2>/dev/null | grep -oE -- '--[a-z][a-z0-9-]+' | sort -u; }
_larder_models() { larder list 2>/dev/null | grep -oE '^[^ ]+/[^ ]+:[^ ]+'; }

_larder() {
    local word=${COMP_WORDS[COMP_CWORD]} words whole line
    # A model name has a colon in it, which bash takes for the end of a word: what is completed is all since the last
    # blank, and of what is found bash wants the part after that colon.
    whole=${COMP_LINE:0:COMP_POINT}
    whole=${whole##*[[:space:]]}
    [[ $whole == *"$word" && $COMP_WORDBREAKS == *:* ]] || whole=$word
    if [ "$COMP_CWORD" = 1 ]; then
        words=$(_larder_verbs)
    elif [[ $whole == -* ]]; then
        words=$(_larder_options "${COMP_WORDS[1]}")
    else
        words=$(_larder_models)
    fi
    local before=${whole%"${whole##*:}"}
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("${line#"$before"}")
    done < <(compgen -W "$words" -- "$whole"; [ "$COMP_CWORD" = 1 ] || compgen -f -- "$whole")
    return 0
}
complete -o filenames -F _larder larder
