"""The completion scripts of bash, zsh and fish.

A script asks the very program that stands on the command line, by the name or path it was typed with, and where that
is none that can be run (an alias, say) the one that printed the script. Nothing that comes back is evaluated: bash
gets no `compgen -W`, zsh no `_describe`.
"""

import os
import shlex
import sys

_BASH = r"""# ProcClaw's completion for bash: source <(procclaw completion bash)
# For an alias as well: complete -F _procclaw ALIAS
_procclaw() {
    local -a words=() program=()
    local word cut="" line value count last=-1
    # bash has split the line at = and : as well; what belongs together is put together again.
    for ((count = 1; count <= COMP_CWORD; count++)); do
        word=${COMP_WORDS[count]}
        if ((last >= 0)) && [[ $word == [=:]* || ${words[last]} == *[=:] ]]; then
            words[last]+=$word
        else
            words[++last]=$word
        fi
    done
    ((last >= 0)) || words[++last]=""
    [[ ${words[last]} == *[=:]* ]] && cut=${words[last]%"${words[last]##*[=:]}"}
    # An alias stands for its words, taken as they are.
    if ((BASH_VERSINFO[0] > 3)) && [[ -n ${BASH_ALIASES[$1]-} ]]; then
        read -r -a program <<<"${BASH_ALIASES[$1]}"
    else
        program=("${1/#\~\//$HOME/}")
    fi
    local -a options=("${program[@]:1}")
    type -P -- "${program[0]}" >/dev/null || program=(@PROGRAM@)
    COMPREPLY=()
    while IFS= read -r line; do
        value=${line%%$'\t'*}
        case $value in
            :files) compopt -o default 2>/dev/null; return ;;
            :directories) compopt -o dirnames 2>/dev/null; return ;;
        esac
        COMPREPLY[${#COMPREPLY[@]}]=${value#"$cut"}
    done < <("${program[0]}" _complete bash "${options[@]}" "${words[@]}" 2>/dev/null </dev/null)
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -F _procclaw @NAMES@
"""

_ZSH = r"""#compdef @NAMES@
# ProcClaw's completion for zsh, after compinit: source <(procclaw completion zsh)
# For a name of your own as well: compdef _procclaw NAME
_procclaw() {
    local program=${words[1]/#\~\//$HOME/} line value
    local -a values shown open
    whence -p -- "$program" >/dev/null || program=@PROGRAM@
    while IFS= read -r line; do
        value=${line%%$'\t'*}
        case $value in
            :files) [[ $PREFIX == -*=* ]] && compset -P '*='; _files; return ;;
            :directories) [[ $PREFIX == -*=* ]] && compset -P '*='; _files -/; return ;;
            *=) open+=("$value") ;;
            *) values+=("$value"); shown+=("${line/$'\t'/  -- }") ;;
        esac
    done < <("$program" _complete zsh "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null </dev/null)
    (( ${#open} )) && compadd -S '' -a open
    (( ${#values} )) && compadd -l -d shown -a values
}
# Read as a file of fpath it is the function itself; sourced it has yet to be made known.
if [[ ${funcstack[1]-} == _procclaw ]]; then
    _procclaw "$@"
else
    compdef _procclaw @NAMES@
fi
"""

_FISH = r"""# ProcClaw's completion for fish: procclaw completion fish | source
# An alias made with fish's own alias is completed as well.
function __procclaw_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program (string replace -r '^~/' "$HOME/" -- $words[1])
    type -q -- $program; or set program @PROGRAM@
    set -l found ($program _complete fish $words[2..-1] "$current" 2>/dev/null </dev/null)
    switch "$found[1]"
        case :files
            __fish_complete_path (string replace -r '^-[^=]*=' '' -- "$current")
        case :directories
            __fish_complete_directories (string replace -r '^-[^=]*=' '' -- "$current")
        case '*'
            string join \n -- $found
    end
end
for name in @NAMES@
    complete -c $name -f -a '(__procclaw_complete)'
end
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def script_for(shell: str) -> str:
    path = sys.argv[0]
    name = os.path.basename(path)
    names = ["procclaw", "procclaw.pyz"]
    if name not in (*names, "__main__.py", "") and not name.startswith("-"):
        names.append(name)
    program = os.path.abspath(path) if os.access(path, os.X_OK) and os.path.isfile(path) else "procclaw"
    quote = _fish_quoted if shell == "fish" else shlex.quote
    quoted_names = " ".join(quote(each) for each in names)
    return _SCRIPTS[shell].replace("@PROGRAM@", quote(program)).replace("@NAMES@", quoted_names)


def _fish_quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
