/* Stands where a Blender would and prints what it was given, in UTF-8: the program that was started, and
 * each argument on a line of its own, as the C library took the command line apart. With --version
 * it answers as Blender does. */
#include <stdio.h>
#include <wchar.h>
#include <windows.h>

static void print(const wchar_t *text) {
    static char bytes[100000];
    DWORD written;
    int size = WideCharToMultiByte(CP_UTF8, 0, text, -1, bytes, sizeof bytes - 1, NULL, NULL);
    bytes[size - 1] = '\n';
    WriteFile(GetStdHandle(STD_OUTPUT_HANDLE), bytes, size, &written, NULL);
}

int wmain(int count, wchar_t **words) {
    static wchar_t path[32768];
    if (count == 2 && !wcscmp(words[1], L"--version")) {
        puts("Blender " VERSION);
        puts("\tbuild date: 2026-01-01");
        return 0;
    }
    GetModuleFileNameW(NULL, path, 32768);
    print(path);
    for (int number = 1; number < count; number++)
        print(words[number]);
    return 0;
}
