/* Runs the command in the environment variable DC_COMMAND as Win32-OpenSSH does where cmd.exe is the
 * shell: its text stands between quotes behind /c, with nothing escaped. */
#include <windows.h>
#include <wchar.h>

static wchar_t command[32000], line[32768];

int wmain(void) {
    STARTUPINFOW start = {sizeof start};
    PROCESS_INFORMATION process;
    DWORD status = 1;
    GetEnvironmentVariableW(L"DC_COMMAND", command, 32000);
    /* As a shell sees it, the variable is not there. */
    SetEnvironmentVariableW(L"DC_COMMAND", NULL);
    _snwprintf(line, 32768, L"\"C:\\windows\\system32\\cmd.exe\" /c \"%ls\"", command);
    if (!CreateProcessW(NULL, line, NULL, NULL, TRUE, 0, NULL, NULL, &start, &process))
        return 255;
    WaitForSingleObject(process.hProcess, INFINITE);
    GetExitCodeProcess(process.hProcess, &status);
    return (int)status;
}
