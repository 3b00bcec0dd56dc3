# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_onionbraid_global_optspecs
    string join \n h/help V/version
end

function __fish_onionbraid_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_onionbraid_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_onionbraid_using_subcommand
    set -l cmd (__fish_onionbraid_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c onionbraid -n "__fish_onionbraid_needs_command" -s h -l help -d 'Print help'
complete -c onionbraid -n "__fish_onionbraid_needs_command" -s V -l version -d 'Print version'
complete -c onionbraid -n "__fish_onionbraid_needs_command" -f -a "run" -d 'Run the daemon, in the foreground'
complete -c onionbraid -n "__fish_onionbraid_needs_command" -f -a "check" -d 'Check the configuration and show what would run'
complete -c onionbraid -n "__fish_onionbraid_needs_command" -f -a "status" -d 'Show how the running daemon is doing'
complete -c onionbraid -n "__fish_onionbraid_needs_command" -f -a "reload" -d 'Have the running daemon read its configuration again'
complete -c onionbraid -n "__fish_onionbraid_needs_command" -f -a "backend" -d 'Take a backend out of use for a while, or give it another weight'
complete -c onionbraid -n "__fish_onionbraid_needs_command" -f -a "healthcheck" -d 'Tell by the exit code whether the running daemon is ready'
complete -c onionbraid -n "__fish_onionbraid_needs_command" -f -a "backend-config" -d 'Print what a backend elsewhere needs to answer for a service'
complete -c onionbraid -n "__fish_onionbraid_needs_command" -f -a "kubernetes" -d 'Write a Kustomize directory: two publishers and some backends of one address'
complete -c onionbraid -n "__fish_onionbraid_needs_command" -f -a "certificate" -d 'Make certificates for https:// on onion addresses, and ask authorities for them'
complete -c onionbraid -n "__fish_onionbraid_needs_command" -f -a "keys" -d 'Make, read and move identity keys, in every format'
complete -c onionbraid -n "__fish_onionbraid_needs_command" -f -a "clients" -d 'Say who may find a service with restricted discovery'
complete -c onionbraid -n "__fish_onionbraid_needs_command" -f -a "import" -d 'Make an arti.toml from another system\'s files'
complete -c onionbraid -n "__fish_onionbraid_needs_command" -f -a "backup" -d 'Write the configuration and the keys to one encrypted file'
complete -c onionbraid -n "__fish_onionbraid_needs_command" -f -a "restore" -d 'Bring the configuration and the keys of a backup to their places'
complete -c onionbraid -n "__fish_onionbraid_needs_command" -f -a "descriptor" -d 'Fetch and explain the published descriptor of an onion address'
complete -c onionbraid -n "__fish_onionbraid_needs_command" -f -a "config" -d 'Show configuration'
complete -c onionbraid -n "__fish_onionbraid_needs_command" -f -a "generate" -d 'Generate what packages hold beside the program'
complete -c onionbraid -n "__fish_onionbraid_needs_command" -f -a "as-user" -d 'Run a command of this program as another user, without a terminal (root)'
complete -c onionbraid -n "__fish_onionbraid_needs_command" -f -a "place" -d 'Write new files, which standard input has, here'
complete -c onionbraid -n "__fish_onionbraid_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand run" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand run" -l to -d 'Serve what a server answers: http://127.0.0.1:8080, 127.0.0.1:22, unix:/path or what else `proxy_ports` takes' -r
complete -c onionbraid -n "__fish_onionbraid_using_subcommand run" -l files -d 'Serve the files in a directory' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand run" -l nickname -d 'Its nickname, by which its key is kept' -r
complete -c onionbraid -n "__fish_onionbraid_using_subcommand run" -l port -d 'The port that clients connect to' -r
complete -c onionbraid -n "__fish_onionbraid_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand check" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand check" -l online -d 'Ask every backend through Tor whether it answers for its service'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand status" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand status" -l json -d 'Print the whole status as JSON'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand status" -l brief -d 'Print one line for each service'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand status" -l watch -d 'Show rates and what is wrong, anew every 2 seconds, until q or Ctrl-C'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand status" -s v -l verbose -d 'Write addresses out in --watch'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand reload" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand reload" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and not __fish_seen_subcommand_from drain maintenance ready weight help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and not __fish_seen_subcommand_from drain maintenance ready weight help" -a "drain" -d 'Send no new clients there: its introduction points leave the descriptor'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and not __fish_seen_subcommand_from drain maintenance ready weight help" -a "maintenance" -d 'Take it out at once'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and not __fish_seen_subcommand_from drain maintenance ready weight help" -a "ready" -d 'Have it in use again, with the weight of the configuration'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and not __fish_seen_subcommand_from drain maintenance ready weight help" -a "weight" -d 'Give it this weight until `ready`, or until the configuration says another'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and not __fish_seen_subcommand_from drain maintenance ready weight help" -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and __fish_seen_subcommand_from drain" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and __fish_seen_subcommand_from drain" -l force -d 'Take out even the last backend that is in use'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and __fish_seen_subcommand_from drain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and __fish_seen_subcommand_from maintenance" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and __fish_seen_subcommand_from maintenance" -l force -d 'Take out even the last backend that is in use'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and __fish_seen_subcommand_from maintenance" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and __fish_seen_subcommand_from ready" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and __fish_seen_subcommand_from ready" -l force -d 'Take out even the last backend that is in use'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and __fish_seen_subcommand_from ready" -s h -l help -d 'Print help'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and __fish_seen_subcommand_from weight" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and __fish_seen_subcommand_from weight" -l force -d 'Take out even the last backend that is in use'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and __fish_seen_subcommand_from weight" -s h -l help -d 'Print help'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and __fish_seen_subcommand_from help" -f -a "drain" -d 'Send no new clients there: its introduction points leave the descriptor'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and __fish_seen_subcommand_from help" -f -a "maintenance" -d 'Take it out at once'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and __fish_seen_subcommand_from help" -f -a "ready" -d 'Have it in use again, with the weight of the configuration'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and __fish_seen_subcommand_from help" -f -a "weight" -d 'Give it this weight until `ready`, or until the configuration says another'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand healthcheck" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand healthcheck" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend-config" -l for -d 'The program that runs the backend' -r -f -a "tor\t'C tor'
onionbraid\t'Another onionbraid'"
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend-config" -l backend -d 'For this backend, which lets this publisher alone read its descriptor' -r
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend-config" -l out -d 'Write the files to this new directory' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend-config" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backend-config" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand kubernetes" -l slots -d 'How many backends there may be: each has a key made beforehand' -r
complete -c onionbraid -n "__fish_onionbraid_using_subcommand kubernetes" -l to -d 'The web server, as backends reach it: http://NAME:PORT, or what else `proxy_ports` takes' -r
complete -c onionbraid -n "__fish_onionbraid_using_subcommand kubernetes" -l out -d 'The directory to write' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand kubernetes" -l key -d 'The key of the address: C tor\'s, or Onionbalance\'s. Without it a new one is made' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand kubernetes" -l image -d 'The container image' -r
complete -c onionbraid -n "__fish_onionbraid_using_subcommand kubernetes" -l service-monitor -d 'Add a ServiceMonitor of the Prometheus operator'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand kubernetes" -l force -d 'Write files anew that are different now; keys are kept all the same'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand kubernetes" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand certificate; and not __fish_seen_subcommand_from self-signed request help" -s h -l help -d 'Print help'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand certificate; and not __fish_seen_subcommand_from self-signed request help" -f -a "self-signed" -d 'Make a certificate for services\' addresses that nobody vouches for'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand certificate; and not __fish_seen_subcommand_from self-signed request help" -f -a "request" -d 'Ask an authority to vouch for a service\'s address, with the address\'s own key'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand certificate; and not __fish_seen_subcommand_from self-signed request help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand certificate; and __fish_seen_subcommand_from self-signed" -l days -d 'How many days it is valid' -r
complete -c onionbraid -n "__fish_onionbraid_using_subcommand certificate; and __fish_seen_subcommand_from self-signed" -l out -d 'The directory to write to' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand certificate; and __fish_seen_subcommand_from self-signed" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand certificate; and __fish_seen_subcommand_from self-signed" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand certificate; and __fish_seen_subcommand_from request" -l nonce -d 'The nonce that the authority gave, in base64' -r
complete -c onionbraid -n "__fish_onionbraid_using_subcommand certificate; and __fish_seen_subcommand_from request" -l out -d 'Write it to this file, which must not exist yet' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand certificate; and __fish_seen_subcommand_from request" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand certificate; and __fish_seen_subcommand_from request" -l subdomains -d 'Ask for all names below the address, too'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand certificate; and __fish_seen_subcommand_from request" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand certificate; and __fish_seen_subcommand_from help" -f -a "self-signed" -d 'Make a certificate for services\' addresses that nobody vouches for'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand certificate; and __fish_seen_subcommand_from help" -f -a "request" -d 'Ask an authority to vouch for a service\'s address, with the address\'s own key'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand certificate; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and not __fish_seen_subcommand_from generate import export export-periods address help" -s h -l help -d 'Print help'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and not __fish_seen_subcommand_from generate import export export-periods address help" -f -a "generate" -d 'Make a new identity key, and print its address'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and not __fish_seen_subcommand_from generate import export export-periods address help" -f -a "import" -d 'Take an existing key into the keystore, and print its address'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and not __fish_seen_subcommand_from generate import export export-periods address help" -f -a "export" -d 'Write a service\'s key to a new file or directory, and print its address'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and not __fish_seen_subcommand_from generate import export export-periods address help" -f -a "export-periods" -d 'Write the keys of some time periods, for a publisher without the identity key'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and not __fish_seen_subcommand_from generate import export export-periods address help" -f -a "address" -d 'Print the address of a key, or of a service'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and not __fish_seen_subcommand_from generate import export export-periods address help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from generate" -l out -d 'Write the key there instead; it must not exist yet' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from generate" -l format -d 'What to write' -r -f -a "ctor\t'A directory as C tor has it, a HiddenServiceDir'
pem\t'A PEM file as Onionbalance has it; only where the key\'s seed is known'"
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from generate" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from generate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from import" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from export" -l out -d 'Where to write it; it must not exist yet' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from export" -l format -d 'What to write' -r -f -a "ctor\t'A directory as C tor has it, a HiddenServiceDir'
pem\t'A PEM file as Onionbalance has it; only where the key\'s seed is known'"
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from export" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from export-periods" -l count -d 'How many periods, the present one included: 1 to 366' -r
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from export-periods" -l out -d 'The directory to write them to, one file each' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from export-periods" -l from -d 'Begin with the period of this day or moment (UTC), not with the present one' -r
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from export-periods" -l period-minutes -d 'How long a time period is, in minutes: the network\'s `hsdir_interval`' -r
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from export-periods" -l period-offset -d 'When time periods begin, in seconds after the beginning of 1970: 12 voting intervals' -r
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from export-periods" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from export-periods" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from address" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from address" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "generate" -d 'Make a new identity key, and print its address'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "import" -d 'Take an existing key into the keystore, and print its address'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "export" -d 'Write a service\'s key to a new file or directory, and print its address'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "export-periods" -d 'Write the keys of some time periods, for a publisher without the identity key'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "address" -d 'Print the address of a key, or of a service'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand clients; and not __fish_seen_subcommand_from add list remove help" -s h -l help -d 'Print help'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand clients; and not __fish_seen_subcommand_from add list remove help" -f -a "add" -d 'Let a client find a service, and print its public key'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand clients; and not __fish_seen_subcommand_from add list remove help" -f -a "list" -d 'Print who may find a service'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand clients; and not __fish_seen_subcommand_from add list remove help" -f -a "remove" -d 'Let a client find a service no longer'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand clients; and not __fish_seen_subcommand_from add list remove help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand clients; and __fish_seen_subcommand_from add" -l key -d 'Take this public key, whose private half the client has, and make none' -r
complete -c onionbraid -n "__fish_onionbraid_using_subcommand clients; and __fish_seen_subcommand_from add" -l out -d 'Write the private half there; it must not exist yet [default: NAME.auth_private]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand clients; and __fish_seen_subcommand_from add" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand clients; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand clients; and __fish_seen_subcommand_from list" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand clients; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand clients; and __fish_seen_subcommand_from remove" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand clients; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand clients; and __fish_seen_subcommand_from help" -f -a "add" -d 'Let a client find a service, and print its public key'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand clients; and __fish_seen_subcommand_from help" -f -a "list" -d 'Print who may find a service'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand clients; and __fish_seen_subcommand_from help" -f -a "remove" -d 'Let a client find a service no longer'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand clients; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand import; and not __fish_seen_subcommand_from onionbalance torrc onionspray help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand import; and not __fish_seen_subcommand_from onionbalance torrc onionspray help" -f -a "onionbalance" -d 'Onionbalance\'s config.yaml, with the keys that it names'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand import; and not __fish_seen_subcommand_from onionbalance torrc onionspray help" -f -a "torrc" -d 'A torrc with onion services, what it includes, and their directories'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand import; and not __fish_seen_subcommand_from onionbalance torrc onionspray help" -f -a "onionspray" -d 'A project of Onionspray or EOTK, with its keys'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand import; and not __fish_seen_subcommand_from onionbalance torrc onionspray help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand import; and __fish_seen_subcommand_from onionbalance" -l out -d 'Write the configuration there instead of printing it; it must not exist yet' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand import; and __fish_seen_subcommand_from onionbalance" -l copy-keys -d 'Copy the keys there; without it the configuration names them where they lie' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand import; and __fish_seen_subcommand_from onionbalance" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand import; and __fish_seen_subcommand_from torrc" -l out -d 'Write the configuration there instead of printing it; it must not exist yet' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand import; and __fish_seen_subcommand_from torrc" -l copy-keys -d 'Copy the keys there; without it the configuration names them where they lie' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand import; and __fish_seen_subcommand_from torrc" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand import; and __fish_seen_subcommand_from onionspray" -l out -d 'Write the configuration there instead of printing it; it must not exist yet' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand import; and __fish_seen_subcommand_from onionspray" -l copy-keys -d 'Copy the keys there; without it the configuration names them where they lie' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand import; and __fish_seen_subcommand_from onionspray" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand import; and __fish_seen_subcommand_from help" -f -a "onionbalance" -d 'Onionbalance\'s config.yaml, with the keys that it names'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand import; and __fish_seen_subcommand_from help" -f -a "torrc" -d 'A torrc with onion services, what it includes, and their directories'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand import; and __fish_seen_subcommand_from help" -f -a "onionspray" -d 'A project of Onionspray or EOTK, with its keys'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand import; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backup" -l recipient -d 'Encrypt it for this public key of age; may repeat. No passphrase is used then' -r
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backup" -l passphrase-file -d 'Take the passphrase from the first line of a file, not from the terminal' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backup" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand backup" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand restore" -l identity -d 'Open it with the secret keys in this file, as age-keygen writes it; may repeat' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand restore" -l passphrase-file -d 'Take the passphrase from the first line of a file, not from the terminal' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand restore" -l into -d 'Write everything below this new directory, not where it was' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand restore" -l below -d 'Files may come back to places below this directory, too, or to the place of this file; may repeat' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand restore" -s c -l config -d 'Where the configuration files come back to; may repeat [default: $ONIONBRAID_CONFIG, else $XDG_CONFIG_HOME/onionbraid/arti.toml or /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand restore" -l list -d 'Print what is in it, and write nothing'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand descriptor" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand descriptor" -l json -d 'Print it as JSON'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand descriptor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand config; and not __fish_seen_subcommand_from example schema show help" -s h -l help -d 'Print help'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand config; and not __fish_seen_subcommand_from example schema show help" -f -a "example" -d 'Print a configuration file that explains every key'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand config; and not __fish_seen_subcommand_from example schema show help" -f -a "schema" -d 'Print a JSON schema of the file, for editors and linters'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand config; and not __fish_seen_subcommand_from example schema show help" -f -a "show" -d 'Print the configuration in force, with all defaults filled in'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand config; and not __fish_seen_subcommand_from example schema show help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand config; and __fish_seen_subcommand_from example" -s h -l help -d 'Print help'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand config; and __fish_seen_subcommand_from schema" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand config; and __fish_seen_subcommand_from show" -s c -l config -d 'Configuration file; may repeat, a later file overrides an earlier one [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else /etc/onionbraid/arti.toml]' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand config; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "example" -d 'Print a configuration file that explains every key'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "schema" -d 'Print a JSON schema of the file, for editors and linters'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "show" -d 'Print the configuration in force, with all defaults filled in'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand generate; and not __fish_seen_subcommand_from completions man help" -s h -l help -d 'Print help'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand generate; and not __fish_seen_subcommand_from completions man help" -f -a "completions" -d 'Completions for a shell'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand generate; and not __fish_seen_subcommand_from completions man help" -f -a "man" -d 'Manual pages'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand generate; and not __fish_seen_subcommand_from completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand generate; and __fish_seen_subcommand_from completions" -l out -d 'Write a file there instead of printing' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand generate; and __fish_seen_subcommand_from completions" -s h -l help -d 'Print help'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand generate; and __fish_seen_subcommand_from man" -l out -d 'Write the page of every command there instead of printing the first' -r -F
complete -c onionbraid -n "__fish_onionbraid_using_subcommand generate; and __fish_seen_subcommand_from man" -s h -l help -d 'Print help'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand generate; and __fish_seen_subcommand_from help" -f -a "completions" -d 'Completions for a shell'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand generate; and __fish_seen_subcommand_from help" -f -a "man" -d 'Manual pages'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand generate; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand as-user" -l here -d 'In the directory where root is'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand as-user" -s h -l help -d 'Print help'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand place" -s h -l help -d 'Print help'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and not __fish_seen_subcommand_from run check status reload backend healthcheck backend-config kubernetes certificate keys clients import backup restore descriptor config generate as-user place help" -f -a "run" -d 'Run the daemon, in the foreground'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and not __fish_seen_subcommand_from run check status reload backend healthcheck backend-config kubernetes certificate keys clients import backup restore descriptor config generate as-user place help" -f -a "check" -d 'Check the configuration and show what would run'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and not __fish_seen_subcommand_from run check status reload backend healthcheck backend-config kubernetes certificate keys clients import backup restore descriptor config generate as-user place help" -f -a "status" -d 'Show how the running daemon is doing'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and not __fish_seen_subcommand_from run check status reload backend healthcheck backend-config kubernetes certificate keys clients import backup restore descriptor config generate as-user place help" -f -a "reload" -d 'Have the running daemon read its configuration again'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and not __fish_seen_subcommand_from run check status reload backend healthcheck backend-config kubernetes certificate keys clients import backup restore descriptor config generate as-user place help" -f -a "backend" -d 'Take a backend out of use for a while, or give it another weight'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and not __fish_seen_subcommand_from run check status reload backend healthcheck backend-config kubernetes certificate keys clients import backup restore descriptor config generate as-user place help" -f -a "healthcheck" -d 'Tell by the exit code whether the running daemon is ready'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and not __fish_seen_subcommand_from run check status reload backend healthcheck backend-config kubernetes certificate keys clients import backup restore descriptor config generate as-user place help" -f -a "backend-config" -d 'Print what a backend elsewhere needs to answer for a service'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and not __fish_seen_subcommand_from run check status reload backend healthcheck backend-config kubernetes certificate keys clients import backup restore descriptor config generate as-user place help" -f -a "kubernetes" -d 'Write a Kustomize directory: two publishers and some backends of one address'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and not __fish_seen_subcommand_from run check status reload backend healthcheck backend-config kubernetes certificate keys clients import backup restore descriptor config generate as-user place help" -f -a "certificate" -d 'Make certificates for https:// on onion addresses, and ask authorities for them'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and not __fish_seen_subcommand_from run check status reload backend healthcheck backend-config kubernetes certificate keys clients import backup restore descriptor config generate as-user place help" -f -a "keys" -d 'Make, read and move identity keys, in every format'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and not __fish_seen_subcommand_from run check status reload backend healthcheck backend-config kubernetes certificate keys clients import backup restore descriptor config generate as-user place help" -f -a "clients" -d 'Say who may find a service with restricted discovery'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and not __fish_seen_subcommand_from run check status reload backend healthcheck backend-config kubernetes certificate keys clients import backup restore descriptor config generate as-user place help" -f -a "import" -d 'Make an arti.toml from another system\'s files'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and not __fish_seen_subcommand_from run check status reload backend healthcheck backend-config kubernetes certificate keys clients import backup restore descriptor config generate as-user place help" -f -a "backup" -d 'Write the configuration and the keys to one encrypted file'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and not __fish_seen_subcommand_from run check status reload backend healthcheck backend-config kubernetes certificate keys clients import backup restore descriptor config generate as-user place help" -f -a "restore" -d 'Bring the configuration and the keys of a backup to their places'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and not __fish_seen_subcommand_from run check status reload backend healthcheck backend-config kubernetes certificate keys clients import backup restore descriptor config generate as-user place help" -f -a "descriptor" -d 'Fetch and explain the published descriptor of an onion address'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and not __fish_seen_subcommand_from run check status reload backend healthcheck backend-config kubernetes certificate keys clients import backup restore descriptor config generate as-user place help" -f -a "config" -d 'Show configuration'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and not __fish_seen_subcommand_from run check status reload backend healthcheck backend-config kubernetes certificate keys clients import backup restore descriptor config generate as-user place help" -f -a "generate" -d 'Generate what packages hold beside the program'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and not __fish_seen_subcommand_from run check status reload backend healthcheck backend-config kubernetes certificate keys clients import backup restore descriptor config generate as-user place help" -f -a "as-user" -d 'Run a command of this program as another user, without a terminal (root)'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and not __fish_seen_subcommand_from run check status reload backend healthcheck backend-config kubernetes certificate keys clients import backup restore descriptor config generate as-user place help" -f -a "place" -d 'Write new files, which standard input has, here'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and not __fish_seen_subcommand_from run check status reload backend healthcheck backend-config kubernetes certificate keys clients import backup restore descriptor config generate as-user place help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from backend" -f -a "drain" -d 'Send no new clients there: its introduction points leave the descriptor'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from backend" -f -a "maintenance" -d 'Take it out at once'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from backend" -f -a "ready" -d 'Have it in use again, with the weight of the configuration'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from backend" -f -a "weight" -d 'Give it this weight until `ready`, or until the configuration says another'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from certificate" -f -a "self-signed" -d 'Make a certificate for services\' addresses that nobody vouches for'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from certificate" -f -a "request" -d 'Ask an authority to vouch for a service\'s address, with the address\'s own key'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "generate" -d 'Make a new identity key, and print its address'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "import" -d 'Take an existing key into the keystore, and print its address'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "export" -d 'Write a service\'s key to a new file or directory, and print its address'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "export-periods" -d 'Write the keys of some time periods, for a publisher without the identity key'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "address" -d 'Print the address of a key, or of a service'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from clients" -f -a "add" -d 'Let a client find a service, and print its public key'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from clients" -f -a "list" -d 'Print who may find a service'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from clients" -f -a "remove" -d 'Let a client find a service no longer'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from import" -f -a "onionbalance" -d 'Onionbalance\'s config.yaml, with the keys that it names'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from import" -f -a "torrc" -d 'A torrc with onion services, what it includes, and their directories'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from import" -f -a "onionspray" -d 'A project of Onionspray or EOTK, with its keys'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "example" -d 'Print a configuration file that explains every key'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "schema" -d 'Print a JSON schema of the file, for editors and linters'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "show" -d 'Print the configuration in force, with all defaults filled in'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from generate" -f -a "completions" -d 'Completions for a shell'
complete -c onionbraid -n "__fish_onionbraid_using_subcommand help; and __fish_seen_subcommand_from generate" -f -a "man" -d 'Manual pages'
