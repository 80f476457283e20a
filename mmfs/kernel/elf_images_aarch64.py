"""What is in the programs and libraries of a simulated file system of arm64: as elf_images.py has it for x86.

The geometry is that of Debian 12's packages for arm64, whose segments are aligned for pages of 64 KB.
"""

from __future__ import annotations

from typing import Final

ELF_IMAGES: Final = """
bash /usr/bin/bash 1346480 dyn 9 34400 4500
  0:0:1316c8:1316c8:rx 13bb00:14bb00:c8bc:17910:rw
  > libtinfo.so.6 libc.so.6 ld-linux-aarch64.so.1
busybox /usr/bin/busybox 1846504 exec 6 400580 67b0
  0:400000:1b20ca:1b20ca:rx 1b9850:5c9850:8cc8:fdb8:rw
cat /usr/bin/cat 68536 dyn 9 2840 440
  0:0:8210:8210:rx fbc0:1fbc0:720:898:rw
  > libc.so.6 ld-linux-aarch64.so.1
dash /usr/bin/dash 133640 dyn 9 4680 1480
  0:0:1d1f8:1d1f8:rx 1eb80:2eb80:1690:4340:rw
  > libc.so.6 ld-linux-aarch64.so.1
dbus-daemon /usr/bin/dbus-daemon 264600 dyn 9 aa00 1568
  0:0:382b8:382b8:rx 3ea98:4ea98:170c:1db0:rw
  > libdbus-1.so.3 libsystemd.so.0 libexpat.so.1 libselinux.so.1 libaudit.so.1 libcap-ng.so.0 libapparmor.so.1
  > libc.so.6 ld-linux-aarch64.so.1
dd /usr/bin/dd 134248 dyn 9 3e40 380
  0:0:13668:13668:rx 1fc80:2fc80:710:b28:rw
  > libc.so.6 ld-linux-aarch64.so.1
python3.11 /usr/bin/python3.11 6616896 exec 9 5d18c0 260
  0:400000:515370:515370:rx 51fda0:92fda0:12edb0:173958:rw
  > libm.so.6 libz.so.1 libexpat.so.1 libc.so.6 ld-linux-aarch64.so.1
sleep /usr/bin/sleep 68432 dyn 9 1c00 370
  0:0:7850:7850:rx fc90:1fc90:5e8:750:rw
  > libc.so.6 ld-linux-aarch64.so.1
static /usr/bin/static 702440 exec 6 400580 3800
  0:400000:7d242:7d242:rx 8c800:48c800:5820:ad28:rw
udevadm /usr/bin/udevadm 1383808 dyn 10 1d4c0 29cc0
  0:0:117368:117368:rx 126340:126340:2b028:2ba00:rw
  > libkmod.so.2 libacl.so.1 libblkid.so.1 libcap.so.2 libselinux.so.1 libc.so.6 ld-linux-aarch64.so.1
postgres /usr/lib/postgresql/15/bin/postgres 8875000 dyn 9 d78c0 21788
  0:0:8383c0:8383c0:rx 83e878:84e878:36022:67a00:rw
  > libzstd.so.1 liblz4.so.1 libxml2.so.2 libpam.so.0 libssl.so.3 libcrypto.so.3 libgssapi_krb5.so.2 libz.so.1
  > libm.so.6 libldap-2.5.so.0 libicui18n.so.72 libicuuc.so.72 libsystemd.so.0 libc.so.6 ld-linux-aarch64.so.1
systemd /usr/lib/systemd/systemd 133464 dyn 9 9400 fd0
  0:0:14120:14120:rx 1f030:2f030:1048:1280:rw
  > libsystemd-core-252.so libsystemd-shared-252.so libc.so.6 ld-linux-aarch64.so.1
systemd-journald /usr/lib/systemd/systemd-journald 199080 dyn 9 8480 1628
  0:0:24f1c:24f1c:rx 2e9d8:3e9d8:16f0:16f8:rw
  > libsystemd-shared-252.so libselinux.so.1 libc.so.6 ld-linux-aarch64.so.1
systemd-logind /usr/lib/systemd/systemd-logind 330240 dyn 10 f440 4730
  0:0:3e2f8:3e2f8:rx 4b8d0:4b8d0:4810:4818:rw
  > libsystemd-shared-252.so libc.so.6 ld-linux-aarch64.so.1
systemd-timesyncd /usr/lib/systemd/systemd-timesyncd 67656 dyn 9 4300 eb0
  0:0:b3f0:b3f0:rx f150:1f150:eb8:ec0:rw
  > libsystemd-shared-252.so libm.so.6 libc.so.6 ld-linux-aarch64.so.1
ld-linux-aarch64.so.1 /usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1 202912 dyn 7 1ae40 1318
  0:0:262e0:262e0:rx 2ece8:3ece8:24e8:2690:rw
libacl.so.1 /usr/lib/aarch64-linux-gnu/libacl.so.1.1.2301 67432 dyn 7 0 440
  0:0:6ef4:6ef4:rx fbc0:1fbc0:448:470:rw
  > libc.so.6 ld-linux-aarch64.so.1
libapparmor.so.1 /usr/lib/aarch64-linux-gnu/libapparmor.so.1.8.4 133752 dyn 7 0 5e0
  0:0:11714:11714:rx 1fa20:2fa20:8f8:950:rw
  > libc.so.6 ld-linux-aarch64.so.1
libaudit.so.1 /usr/lib/aarch64-linux-gnu/libaudit.so.1.0.0 132984 dyn 7 0 850
  0:0:1e73c:1e73c:rx 1f7b0:2f7b0:868:10900:rw
  > libcap-ng.so.0 libc.so.6 ld-linux-aarch64.so.1
libblkid.so.1 /usr/lib/aarch64-linux-gnu/libblkid.so.1.1.0 396248 dyn 8 0 5640
  0:0:54610:54610:rx 5a9c0:6a9c0:5a28:5d78:rw
  > libc.so.6 ld-linux-aarch64.so.1
libc.so.6 /usr/lib/aarch64-linux-gnu/libc.so.6 1651408 dyn 10 27930 3240
  0:0:18b89c:18b89c:rx 18cdc0:19cdc0:4908:112a0:rw
  > ld-linux-aarch64.so.1
libcap-ng.so.0 /usr/lib/aarch64-linux-gnu/libcap-ng.so.0.0.0 67504 dyn 8 0 448
  0:0:5e78:5e78:rx fbb8:1fbb8:450:488:rw
  > libc.so.6 ld-linux-aarch64.so.1
libcap.so.2 /usr/lib/aarch64-linux-gnu/libcap.so.2.66 67552 dyn 9 7800 9e8
  0:0:99f4:99f4:rx f618:1f618:a20:a40:rw
  > libc.so.6 ld-linux-aarch64.so.1
libcom_err.so.2 /usr/lib/aarch64-linux-gnu/libcom_err.so.2.1 67432 dyn 8 0 3b0
  0:0:2490:2490:rx fc50:1fc50:3c0:3f8:rw
  > libc.so.6 ld-linux-aarch64.so.1
libcrypt.so.1 /usr/lib/aarch64-linux-gnu/libcrypt.so.1.1.0 198584 dyn 7 0 7b0
  0:0:2dfd4:2dfd4:rx 2f850:3f850:7b8:8a28:rw
  > libc.so.6 ld-linux-aarch64.so.1
libcrypto.so.3 /usr/lib/aarch64-linux-gnu/libcrypto.so.3 4532392 dyn 7 0 5afe0
  0:0:3eb778:3eb778:rx 3f5020:3f5020:5d0d8:60288:rw
  > libc.so.6 ld-linux-aarch64.so.1
libdbus-1.so.3 /usr/lib/aarch64-linux-gnu/libdbus-1.so.3.32.4 395336 dyn 7 0 16e8
  0:0:534ec:534ec:rx 5e918:6e918:1780:1958:rw
  > libsystemd.so.0 libc.so.6 ld-linux-aarch64.so.1
libestr.so.0 /usr/lib/aarch64-linux-gnu/libestr.so.0.0.0 14104 dyn 7 0 2c8
  0:0:210c:210c:rx 2d38:12d38:2d0:2d8:rw
  > libc.so.6 ld-linux-aarch64.so.1
libexpat.so.1 /usr/lib/aarch64-linux-gnu/libexpat.so.1.8.10 198712 dyn 7 0 1da0
  0:0:237a4:237a4:rx 2e260:3e260:1e31:1e40:rw
  > libc.so.6 ld-linux-aarch64.so.1
libfastjson.so.4 /usr/lib/aarch64-linux-gnu/libfastjson.so.4.3.0 67840 dyn 7 0 3e8
  0:0:a10c:a10c:rx fc18:1fc18:58c:5a8:rw
  > libc.so.6 ld-linux-aarch64.so.1
libffi.so.8 /usr/lib/aarch64-linux-gnu/libffi.so.8.1.2 68000 dyn 7 0 388
  0:0:76e0:76e0:rx fc78:1fc78:534:9d0:rw
  > libc.so.6 ld-linux-aarch64.so.1
libgcc_s.so.1 /usr/lib/aarch64-linux-gnu/libgcc_s.so.1 133448 dyn 7 0 248
  0:0:13268:13268:rx 1fdb8:2fdb8:3e8:510:rw
  > libc.so.6
libgcrypt.so.20 /usr/lib/aarch64-linux-gnu/libgcrypt.so.20.4.1 1000296 dyn 7 0 4490
  0:0:def20:def20:rx ebb70:ebb70:8048:85e0:rw
  > libgpg-error.so.0 libc.so.6 ld-linux-aarch64.so.1
libgmp.so.10 /usr/lib/aarch64-linux-gnu/libgmp.so.10.4.1 529184 dyn 7 0 690
  0:0:74d70:74d70:rx 7f970:8f970:1208:1240:rw
  > libc.so.6 ld-linux-aarch64.so.1
libgnutls.so.30 /usr/lib/aarch64-linux-gnu/libgnutls.so.30.34.3 2303440 dyn 8 0 10b08
  0:0:218d2c:218d2c:rx 21f4f8:22f4f8:128e8:15cc8:rw
  > libp11-kit.so.0 libidn2.so.0 libunistring.so.2 libtasn1.so.6 libnettle.so.8 libhogweed.so.6 libgmp.so.10 libc.so.6
  > ld-linux-aarch64.so.1
libgpg-error.so.0 /usr/lib/aarch64-linux-gnu/libgpg-error.so.0.33.1 198640 dyn 7 0 8d0
  0:0:235f8:235f8:rx 2f730:3f730:914:a70:rw
  > libc.so.6 ld-linux-aarch64.so.1
libgssapi_krb5.so.2 /usr/lib/aarch64-linux-gnu/libgssapi_krb5.so.2.2 334904 dyn 7 0 13f8
  0:0:4be00:4be00:rx 4ec08:5ec08:2838:2a10:rw
  > libkrb5.so.3 libk5crypto.so.3 libcom_err.so.2 libkrb5support.so.0 libc.so.6 ld-linux-aarch64.so.1
libhogweed.so.6 /usr/lib/aarch64-linux-gnu/libhogweed.so.6.6 329656 dyn 7 0 15a0
  0:0:46670:46670:rx 4ea60:5ea60:15a8:15b0:rw
  > libnettle.so.8 libgmp.so.10 libc.so.6 ld-linux-aarch64.so.1
libicudata.so.72 /usr/lib/aarch64-linux-gnu/libicudata.so.72.1 31262336 dyn 7 0 220
  0:0:1dce428:1dce428:rx 1dcfde0:1ddfde0:228:230:rw
libicui18n.so.72 /usr/lib/aarch64-linux-gnu/libicui18n.so.72.1 3278944 dyn 7 0 11218
  0:0:30b286:30b286:rx 30ede8:31ede8:112c4:12438:rw
  > libicuuc.so.72 libstdc++.so.6 libm.so.6 libgcc_s.so.1 libc.so.6 ld-linux-aarch64.so.1
libicuuc.so.72 /usr/lib/aarch64-linux-gnu/libicuuc.so.72.1 2099352 dyn 7 0 127f8
  0:0:1e5695:1e5695:rx 1ed808:1fd808:12840:14a10:rw
  > libicudata.so.72 libstdc++.so.6 libm.so.6 libgcc_s.so.1 libc.so.6 ld-linux-aarch64.so.1
libidn2.so.0 /usr/lib/aarch64-linux-gnu/libidn2.so.0.3.8 198664 dyn 7 0 500
  0:0:2dcd0:2dcd0:rx 2fb00:3fb00:558:568:rw
  > libunistring.so.2 libc.so.6 ld-linux-aarch64.so.1
libip4tc.so.2 /usr/lib/aarch64-linux-gnu/libip4tc.so.2.0.0 67960 dyn 7 0 490
  0:0:5d24:5d24:rx fb70:1fb70:6a8:6b8:rw
  > libc.so.6 ld-linux-aarch64.so.1
libk5crypto.so.3 /usr/lib/aarch64-linux-gnu/libk5crypto.so.3.1 199352 dyn 7 0 ee0
  0:0:2a73c:2a73c:rx 2f120:3f120:11a0:11a8:rw
  > libkrb5support.so.0 libc.so.6 ld-linux-aarch64.so.1
libkeyutils.so.1 /usr/lib/aarch64-linux-gnu/libkeyutils.so.1.10 67432 dyn 7 0 3a8
  0:0:357c:357c:rx fc58:1fc58:3b0:3b8:rw
  > libc.so.6 ld-linux-aarch64.so.1
libkmod.so.2 /usr/lib/aarch64-linux-gnu/libkmod.so.2.4.0 133176 dyn 7 0 7e0
  0:0:18890:18890:rx 1f820:2f820:868:870:rw
  > libzstd.so.1 liblzma.so.5 libcrypto.so.3 libc.so.6 ld-linux-aarch64.so.1
libkrb5.so.3 /usr/lib/aarch64-linux-gnu/libkrb5.so.3.3 928752 dyn 7 0 b130
  0:0:c98d8:c98d8:rx d4ed0:d4ed0:d528:d7c0:rw
  > libk5crypto.so.3 libcom_err.so.2 libkrb5support.so.0 libkeyutils.so.1 libresolv.so.2 libc.so.6
  > ld-linux-aarch64.so.1
libkrb5support.so.0 /usr/lib/aarch64-linux-gnu/libkrb5support.so.0.1 68576 dyn 7 0 308
  0:0:b55c:b55c:rx fcf8:1fcf8:6f0:810:rw
  > libc.so.6 ld-linux-aarch64.so.1
liblber-2.5.so.0 /usr/lib/aarch64-linux-gnu/liblber-2.5.so.0.1.8 67792 dyn 7 0 5d8
  0:0:e4f0:e4f0:rx fa28:1fa28:6a8:708:rw
  > libc.so.6 ld-linux-aarch64.so.1
libldap-2.5.so.0 /usr/lib/aarch64-linux-gnu/libldap-2.5.so.0.1.8 396656 dyn 7 0 1d18
  0:0:596e0:596e0:rx 5e2e8:6e2e8:22d8:4788:rw
  > liblber-2.5.so.0 libsasl2.so.2 libgnutls.so.30 libc.so.6 ld-linux-aarch64.so.1
liblz4.so.1 /usr/lib/aarch64-linux-gnu/liblz4.so.1.9.4 199056 dyn 7 0 2f0
  0:0:20d58:20d58:rx 2fd10:3fd10:4d8:4e0:rw
  > libc.so.6 ld-linux-aarch64.so.1
liblzma.so.5 /usr/lib/aarch64-linux-gnu/liblzma.so.5.4.1 198584 dyn 7 0 c48
  0:0:2b4f0:2b4f0:rx 2f3b8:3f3b8:c50:c58:rw
  > libc.so.6 ld-linux-aarch64.so.1
libm.so.6 /usr/lib/aarch64-linux-gnu/libm.so.6 591960 dyn 7 0 288
  0:0:81138:81138:rx 8fd78:9fd78:2ec:2f8:rw
  > libc.so.6 ld-linux-aarch64.so.1
libmount.so.1 /usr/lib/aarch64-linux-gnu/libmount.so.1.1.0 461432 dyn 8 0 1e30
  0:0:65270:65270:rx 6e1d0:7e1d0:20b8:2400:rw
  > libblkid.so.1 libselinux.so.1 libc.so.6 ld-linux-aarch64.so.1
libnettle.so.8 /usr/lib/aarch64-linux-gnu/libnettle.so.8.6 329736 dyn 7 0 1b08
  0:0:47ab0:47ab0:rx 4e4f8:5e4f8:1b60:1b68:rw
  > libc.so.6 ld-linux-aarch64.so.1
libp11-kit.so.0 /usr/lib/aarch64-linux-gnu/libp11-kit.so.0.3.0 1351264 dyn 8 0 a2f0
  0:0:1261d0:1261d0:rx 135d10:135d10:13960:13ed8:rw
  > libffi.so.8 libc.so.6 ld-linux-aarch64.so.1
libpam.so.0 /usr/lib/aarch64-linux-gnu/libpam.so.0.85.1 67512 dyn 7 0 660
  0:0:e154:e154:rx f9a0:1f9a0:66c:670:rw
  > libaudit.so.1 libc.so.6 ld-linux-aarch64.so.1
libpcre2-8.so.0 /usr/lib/aarch64-linux-gnu/libpcre2-8.so.0.11.2 592440 dyn 7 0 3d8
  0:0:87060:87060:rx 8fc28:9fc28:668:6c8:rw
  > libc.so.6 ld-linux-aarch64.so.1
libresolv.so.2 /usr/lib/aarch64-linux-gnu/libresolv.so.2 68232 dyn 7 0 9f8
  0:0:c584:c584:rx f608:1f608:c38:33f0:rw
  > libc.so.6 ld-linux-aarch64.so.1
libsasl2.so.2 /usr/lib/aarch64-linux-gnu/libsasl2.so.2.0.25 133880 dyn 7 0 730
  0:0:1a3d4:1a3d4:rx 1f8d0:2f8d0:a78:b58:rw
  > libc.so.6 ld-linux-aarch64.so.1
libseccomp.so.2 /usr/lib/aarch64-linux-gnu/libseccomp.so.2.5.4 133328 dyn 7 0 830
  0:0:1bb24:1bb24:rx 1f7d0:2f7d0:958:978:rw
  > libc.so.6 ld-linux-aarch64.so.1
libselinux.so.1 /usr/lib/aarch64-linux-gnu/libselinux.so.1 198800 dyn 8 0 bc8
  0:0:2a8b0:2a8b0:rx 2f438:3f438:c20:3200:rw
  > libpcre2-8.so.0 libc.so.6 ld-linux-aarch64.so.1
libssl.so.3 /usr/lib/aarch64-linux-gnu/libssl.so.3 737192 dyn 7 0 9968
  0:0:9a804:9a804:rx a6698:a6698:d160:d1a0:rw
  > libcrypto.so.3 libc.so.6 ld-linux-aarch64.so.1
libstdc++.so.6 /usr/lib/aarch64-linux-gnu/libstdc++.so.6.0.30 2174296 dyn 8 0 a910
  0:0:1fa0c5:1fa0c5:rx 2056f0:2056f0:cc68:100f0:rw
  > libm.so.6 libc.so.6 libgcc_s.so.1
libsystemd.so.0 /usr/lib/aarch64-linux-gnu/libsystemd.so.0.35.0 923696 dyn 8 0 abc0
  0:0:c6478:c6478:rx d5440:d5440:bb10:c598:rw
  > libcap.so.2 libgcrypt.so.20 liblzma.so.5 libzstd.so.1 liblz4.so.1 libc.so.6 ld-linux-aarch64.so.1
libtasn1.so.6 /usr/lib/aarch64-linux-gnu/libtasn1.so.6.6.3 133048 dyn 7 0 d10
  0:0:117b0:117b0:rx 1f2f0:2f2f0:d1c:ec8:rw
  > libc.so.6 ld-linux-aarch64.so.1
libtinfo.so.6 /usr/lib/aarch64-linux-gnu/libtinfo.so.6.4 199896 dyn 7 0 3798
  0:0:2bf68:2bf68:rx 2c868:3c868:3c24:4058:rw
  > libc.so.6 ld-linux-aarch64.so.1
libunistring.so.2 /usr/lib/aarch64-linux-gnu/libunistring.so.2.2.0 1771448 dyn 7 0 3890
  0:0:1a8ac8:1a8ac8:rx 1ac770:1bc770:38e8:4138:rw
  > libc.so.6 ld-linux-aarch64.so.1
libuuid.so.1 /usr/lib/aarch64-linux-gnu/libuuid.so.1.3.0 67576 dyn 8 0 430
  0:0:6fcc:6fcc:rx fbd0:1fbd0:438:458:rw
  > libc.so.6 ld-linux-aarch64.so.1
libwrap.so.0 /usr/lib/aarch64-linux-gnu/libwrap.so.0.7.6 68344 dyn 7 0 640
  0:0:89f0:89f0:rx f9c0:1f9c0:a24:fe8:rw
  > libc.so.6 ld-linux-aarch64.so.1
libxml2.so.2 /usr/lib/aarch64-linux-gnu/libxml2.so.2.9.14 1708736 dyn 7 0 8608
  0:0:194564:194564:rx 1979f8:1a79f8:911c:a1e0:rw
  > libicuuc.so.72 libz.so.1 liblzma.so.5 libm.so.6 libc.so.6 ld-linux-aarch64.so.1
libz.so.1 /usr/lib/aarch64-linux-gnu/libz.so.1.2.13 133520 dyn 7 0 3b0
  0:0:19930:19930:rx 1fc50:2fc50:548:550:rw
  > libc.so.6 ld-linux-aarch64.so.1
libzstd.so.1 /usr/lib/aarch64-linux-gnu/libzstd.so.1.5.4 657352 dyn 7 0 830
  0:0:9c4d0:9c4d0:rx 9f7d0:af7d0:898:8d0:rw
  > libc.so.6 ld-linux-aarch64.so.1
libsystemd-core-252.so /usr/lib/aarch64-linux-gnu/systemd/libsystemd-core-252.so 2035576 dyn 7 0 63750
  0:0:18c6d4:18c6d4:rx 18c8b0:19c8b0:63e28:63e48:rw
  > libsystemd-shared-252.so libseccomp.so.2 libpam.so.0 libaudit.so.1 libkmod.so.2 libapparmor.so.1 libselinux.so.1
  > libmount.so.1 libc.so.6 ld-linux-aarch64.so.1
libsystemd-shared-252.so /usr/lib/aarch64-linux-gnu/systemd/libsystemd-shared-252.so 3419888 dyn 8 0 1b880
  0:0:31bba0:31bba0:rx 324780:324780:1dde8:1f0c8:rw
  > libacl.so.1 libblkid.so.1 libcap.so.2 libcrypt.so.1 libgcrypt.so.20 libip4tc.so.2 libkmod.so.2 liblz4.so.1
  > libmount.so.1 libcrypto.so.3 libpam.so.0 libseccomp.so.2 libselinux.so.1 libzstd.so.1 liblzma.so.5 libm.so.6
  > libc.so.6 ld-linux-aarch64.so.1
agetty /usr/sbin/agetty 134480 dyn 9 5e00 8a0
  0:0:10b60:10b60:rx 1f760:2f760:d60:2d80:rw
  > libc.so.6 ld-linux-aarch64.so.1
cron /usr/sbin/cron 67968 dyn 9 37c0 760
  0:0:a848:a848:rx f8a0:1f8a0:850:15d8:rw
  > libpam.so.0 libselinux.so.1 libc.so.6 ld-linux-aarch64.so.1
nginx /usr/sbin/nginx 1272520 dyn 9 26100 1de8
  0:0:113504:113504:rx 11e218:12e218:180b8:374b8:rw
  > libcrypt.so.1 libpcre2-8.so.0 libssl.so.3 libcrypto.so.3 libz.so.1 libc.so.6 ld-linux-aarch64.so.1
rsyslogd /usr/sbin/rsyslogd 816976 dyn 9 17380 2df8
  0:0:ae55c:ae55c:rx bd208:bd208:9cb8:ab10:rw
  > libz.so.1 libm.so.6 libestr.so.0 libfastjson.so.4 libsystemd.so.0 libuuid.so.1 libc.so.6 ld-linux-aarch64.so.1
sshd /usr/sbin/sshd 1314416 dyn 9 12e00 39a0
  0:0:136c0c:136c0c:rx 13c660:14c660:4018:80b0:rw
  > libcrypt.so.1 libwrap.so.0 libaudit.so.1 libpam.so.0 libsystemd.so.0 libselinux.so.1 libgssapi_krb5.so.2
  > libkrb5.so.3 libcom_err.so.2 libcrypto.so.3 libz.so.1 libc.so.6 ld-linux-aarch64.so.1
"""
