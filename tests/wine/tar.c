/* Windows has a tar, Wine has none: this hands `-xzf - -C FOLDER` and the stdin to the tar of the system around. */
#include <windows.h>
#include <stdio.h>
#include <wchar.h>

#define TRIES 3000
#define PAUSE_MS 20

int wmain(int count, wchar_t **words) {
    STARTUPINFOW start = {sizeof start};
    PROCESS_INFORMATION process;
    wchar_t line[32768], done[1024];
    const char *folder;
    FILE *file;
    int status = 1;
    char *(CDECL * unix_name)(const WCHAR *) =
        (void *)GetProcAddress(GetModuleHandleW(L"kernel32"), "wine_get_unix_file_name");
    if (count != 5 || wcscmp(words[1], L"-xzf") || wcscmp(words[2], L"-") || wcscmp(words[3], L"-C") || !unix_name)
        return 2;
    folder = unix_name(words[4]);
    /* A program of the system around gives no handle to wait for. */
    _snwprintf(done, 1024, L"%ls.status", words[4]);
    _snwprintf(
        line, 32768, L"sh -c \"tar -xzf - -C '%hs'; echo $? >'%hs.new'; mv '%hs.new' '%hs.status'\"",
        folder, folder, folder, folder
    );
    start.dwFlags = STARTF_USESTDHANDLES;
    start.hStdInput = GetStdHandle(STD_INPUT_HANDLE);
    start.hStdOutput = GetStdHandle(STD_OUTPUT_HANDLE);
    start.hStdError = GetStdHandle(STD_ERROR_HANDLE);
    if (!CreateProcessW(L"Z:\\bin\\sh", line, NULL, NULL, TRUE, 0, NULL, NULL, &start, &process))
        return 1;
    for (int number = 0; number < TRIES && !(file = _wfopen(done, L"r")); number++)
        Sleep(PAUSE_MS);
    if (!file)
        return 1;
    fscanf(file, "%d", &status);
    fclose(file);
    _wremove(done);
    return status;
}
